//! `.rise.toml` in the working directory or above it. Anyone who can open a pull request can write
//! it, so it may name a project and a registry and nothing else.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::described;
use super::unreadable;
use crate::failure::Failure;
use crate::files;

const NAME: &str = ".rise.toml";
const LONGEST: u64 = 4 * 1024;
/// The most folders that are searched.
const DEPTH: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkout {
    pub(super) project: Option<String>,
    pub(super) registry: Option<String>,
}

impl Checkout {
    /// Returns the nearest file and its path.
    pub(super) fn find(from: &Path) -> Result<(Self, Option<PathBuf>), Failure> {
        for directory in from.ancestors().take(DEPTH) {
            let path = directory.join(NAME);
            let Some(text) =
                files::read(&path, LONGEST).map_err(|error| unreadable(&path, &error))?
            else {
                continue;
            };
            let checkout = toml::from_str(&text).map_err(|error| {
                let is_key = error.message().starts_with("unknown field");
                let allowed = "; only `project` and `registry` are allowed in this file";
                let what = described(&text, &error) + if is_key { allowed } else { "" };
                unreadable(&path, &what)
            })?;
            return Ok((checkout, Some(path)));
        }
        Ok((Self::default(), None))
    }
}
