//! A file that holds a private key: for its owner alone, and never half written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyFileError;
use crate::files;

/// An Ed25519 key is 119 bytes. A much larger file is not a key.
const LARGEST_FILE: u64 = 4096;

/// The content of the file; `None` if there is no such file. `format` is the error of a file that
/// cannot be a key.
pub(super) fn read(
    path: &Path,
    format: impl Fn() -> KeyFileError,
) -> Result<Option<Zeroizing<String>>, KeyFileError> {
    let unreadable = |source| KeyFileError::Io { path: path.to_owned(), act: "read", source };
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // The checks apply to the open file, not to its name: what was checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.len() > LARGEST_FILE {
        return Err(format());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 && !files::group::is_secret(path, &file, &metadata).map_err(unreadable)? {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    // As large as it may become: a buffer that grows leaves copies behind that nobody wipes.
    let mut text =
        Zeroizing::new(String::with_capacity(usize::try_from(LARGEST_FILE).unwrap_or(0) + 1));
    file.take(LARGEST_FILE).read_to_string(&mut text).map_err(|_| format())?;
    Ok(Some(text))
}

/// Whether the file could be made.
pub(super) fn may_create(path: &Path) -> Result<(), KeyFileError> {
    files::may_create(path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        act: "created",
        source,
    })
}

/// Makes the file with this content and reads it back. If another process makes the file at the
/// same time, both get the content of the one that was first.
pub(super) fn create(
    path: &Path,
    content: &str,
    format: impl Fn() -> KeyFileError,
) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |act| move |source| KeyFileError::Io { path: path.to_owned(), act, source };
    install(path, content).map_err(io("created"))?;
    let gone = || io("read")(io::ErrorKind::NotFound.into());
    read(path, format)?.ok_or_else(gone)
}

/// Writes beside `path` and links the file there. A link, like `O_EXCL`, fails where something is
/// already; unlike with `O_EXCL`, nobody ever sees half a key.
fn install(path: &Path, content: &str) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
    let draft = folder.join(format!(".key-{:016x}.draft", u64::from_ne_bytes(random)));
    let installed = write(&draft, content).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    // Also after a failure, so that no key is left lying about.
    let removed = fs::remove_file(&draft);
    installed?;
    removed?;
    File::open(folder)?.sync_all()
}

pub(super) fn write(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}
