//! What `docker-login` wrote, so that `logout` finds it when the cache has another credential or
//! none.
//!
//! A file of mode 0600 names each login by its file and a digest of its entry. It contains no
//! secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cache::Kept;
use crate::environment::Environment;
use crate::files::{self, FileError};
use crate::give_back::Returnable;

const LONGEST: u64 = 256 * 1024;
/// The most logins that are recorded. The oldest ones are dropped.
const MOST: usize = 200;

/// The file with the records.
pub(crate) struct LoginRecords {
    folder: PathBuf,
}

/// A login in a client's file.
#[derive(Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct RecordedLogin {
    pub(crate) file: PathBuf,
    /// SHA-256 of the entry.
    pub(crate) digest: String,
    /// `None` if the broker cannot end it.
    pub(crate) credential: Option<Returnable>,
}

impl RecordedLogin {
    pub(crate) fn new(file: &Path, kept: &Kept) -> Self {
        Self {
            file: file.to_owned(),
            digest: digest(&super::entry(&kept.credentials)),
            credential: Returnable::of_kept(kept),
        }
    }
}

impl LoginRecords {
    /// `None` if there is no home.
    pub(crate) fn of(environment: &Environment) -> Option<Self> {
        Some(Self { folder: environment.cache_directory()?.join("docker") })
    }

    /// Adds a login, or moves it to the end.
    pub(crate) fn add(&self, login: RecordedLogin) -> Result<(), FileError> {
        files::private_directory(&self.folder)?;
        let _lock = files::lock_folder(&self.folder)?;
        let mut all = self.all();
        all.retain(|earlier| *earlier != login);
        all.push(login);
        let recent = all.get(all.len().saturating_sub(MOST)..).unwrap_or_default();
        files::write_private(&self.path(), &serde_json::to_string(recent).unwrap_or_default())
    }

    /// The logins, the oldest first. A damaged file is as good as none.
    pub(crate) fn all(&self) -> Vec<RecordedLogin> {
        let text = files::read_private(&self.path(), LONGEST).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(self.path());
    }

    fn path(&self) -> PathBuf {
        self.folder.join("logins.json")
    }
}

/// Identifies an entry of a client's file.
pub(super) fn digest(entry: &Value) -> String {
    hex::encode(Sha256::digest(entry.to_string()))
}
