//! 32 secret random bytes, in hex.

use std::path::Path;

use zeroize::Zeroizing;

use super::{KeyFileError, file};

const BYTES: usize = 32;
const LARGEST_FILE: u64 = 4096;

/// The bytes in the file; `None` if there is no such file.
pub(crate) fn open(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    find(path, || KeyFileError::SecretFormat { path: path.to_owned() })
}

/// The bytes in a file that somebody else makes.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let found = find(path, || KeyFileError::GivenSecretFormat { path: path.to_owned() })?;
    found.ok_or_else(|| KeyFileError::SecretMissing { path: path.to_owned() })
}

pub(crate) fn open_or_create(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    if let Some(bytes) = open(path)? {
        return Ok(bytes);
    }
    let format = || KeyFileError::SecretFormat { path: path.to_owned() };
    let mut bytes = Zeroizing::new([0; BYTES]);
    aws_lc_rs::rand::fill(&mut *bytes)
        .map_err(|_| KeyFileError::Generate { path: path.to_owned() })?;
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(*bytes))));
    parse(&file::create(path, &text, LARGEST_FILE, format)?).ok_or_else(format)
}

/// Checks the file, or that it can be created.
pub(crate) fn examine(path: &Path) -> Result<(), KeyFileError> {
    if open(path)?.is_some() { Ok(()) } else { file::may_create(path) }
}

fn find(
    path: &Path,
    format: impl Fn() -> KeyFileError,
) -> Result<Option<Zeroizing<Vec<u8>>>, KeyFileError> {
    let text = file::read(path, LARGEST_FILE, &format)?;
    text.map(|text| parse(&text).ok_or_else(&format)).transpose()
}

fn parse(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(hex::decode(text.trim()).ok()?);
    (bytes.len() == BYTES).then_some(bytes)
}
