//! Credentials on disk, so that a helper that is started a hundred times asks the broker once.
//!
//! A folder of mode 0700 holds one file of mode 0600 for each key. A file is replaced atomically. A
//! lock beside it is held by the process that asks the broker, and readers never wait for it. An
//! unusable cache makes a run slower and is reported, but no run fails because of it.
//!
//! **Invariant:** no credential is served after its expiry, nor before the time at which it was
//! obtained: after a clock was set back, the cached credential is not used.

mod registries;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::broker::{Credentials, CredentialsForm};
use crate::files;
use rise_secret::Secret;

const NOT_CACHED: &str = "credentials are not cached, so each run asks the broker";
const VERSION: u8 = 1;
const LONGEST: u64 = 256 * 1024;
/// Seconds. A credential without an expiry is requested again after this time, so that changes at
/// the broker take effect.
const ENDLESS: u64 = 600;
/// Seconds. A credential that expires sooner is not served: no client could use it.
const LEAST: u64 = 10;
/// Longer than any credential is valid. Older files are deleted.
const OLDEST: Duration = Duration::from_hours(13);
/// The most files that one sweep examines.
const SWEPT: usize = 1_000;

pub(crate) struct Cache {
    directory: Option<PathBuf>,
}

/// Name of a cached credential, made of everything that the broker's answer depends on.
pub(crate) struct CacheKey(String);

/// A credential and its time of expiry by this machine's clock, in seconds since 1970.
pub(crate) struct Kept {
    pub(crate) credentials: Credentials,
    pub(crate) obtained_at: u64,
    pub(crate) expires_at: u64,
}

/// A cached credential and its file.
pub(crate) struct CachedCredential {
    path: PathBuf,
    pub(crate) kept: Kept,
}

/// Held by the process that asks the broker.
pub(crate) struct Lock {
    _file: File,
}

#[derive(Deserialize, Serialize)]
struct CredentialsEntry<S> {
    version: u8,
    /// Seconds since 1970 by this machine's clock.
    obtained_at: u64,
    expires_at: u64,
    answer: CredentialsForm<S>,
}

/// A line for stderr: why the cache was not used, and the remedy.
pub(crate) type Complaint = String;

impl CacheKey {
    pub(crate) fn new(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(hex::encode(digest.finalize()))
    }
}

impl Kept {
    pub(crate) fn new(credentials: Credentials, now: u64) -> Self {
        let lifetime = credentials.expires_in.unwrap_or(ENDLESS);
        Self { credentials, obtained_at: now, expires_at: now.saturating_add(lifetime) }
    }

    /// The time from which the credential is renewed where possible.
    pub(crate) fn half_life(&self) -> u64 {
        self.obtained_at.saturating_add(self.expires_at.saturating_sub(self.obtained_at) / 2)
    }

    pub(crate) fn is_usable(&self, now: u64) -> bool {
        self.obtained_at <= now && now.saturating_add(LEAST) < self.expires_at
    }

    pub(crate) fn is_fresh(&self, now: u64) -> bool {
        self.is_usable(now) && now < self.half_life()
    }
}

impl Cache {
    /// Without a directory, nothing is cached.
    pub(crate) fn new(cache_directory: Option<PathBuf>) -> Self {
        Self { directory: cache_directory.map(|directory| directory.join("registry")) }
    }

    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The cached credential, whether it is still usable or not.
    pub(crate) fn load(&self, key: &CacheKey) -> Result<Option<Kept>, Complaint> {
        let Some(path) = self.file(key) else { return Ok(None) };
        let complain = |what: &dyn std::fmt::Display| {
            format!(
                "the cached credentials in {} are not used: {what}; delete the file",
                path.display()
            )
        };
        let Some(text) = files::read_private(&path, LONGEST).map_err(|error| complain(&error))?
        else {
            return Ok(None);
        };
        let entry: CredentialsEntry<Secret> =
            serde_json::from_str(&text).map_err(|_| complain(&"they are damaged"))?;
        if entry.version != VERSION {
            return Ok(None);
        }
        let credentials = Credentials::of(entry.answer).map_err(|why| complain(&why))?;
        Ok(Some(Kept { credentials, obtained_at: entry.obtained_at, expires_at: entry.expires_at }))
    }

    /// Creates the folder and locks the key. Returns `None` if another process holds the lock, and
    /// an error if the cache is unusable.
    pub(crate) fn lock(&self, key: &CacheKey) -> Result<Option<Lock>, Complaint> {
        let directory = self
            .directory
            .as_deref()
            .ok_or_else(|| format!("{NOT_CACHED}: HOME is not set to a folder"))?;
        let complain = |what: &dyn std::fmt::Display| {
            format!(
                "{NOT_CACHED}: {} cannot be used: {what}; set XDG_CACHE_HOME to a folder of your \
                 own",
                directory.display()
            )
        };
        files::private_directory(directory).map_err(|error| complain(&error))?;
        let path = directory.join(format!("{}.lock", key.0));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| complain(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(complain(&error)),
        }
    }

    /// The argument of type [`Lock`] proves that the caller holds it.
    pub(crate) fn store(&self, key: &CacheKey, kept: &Kept, _: &Lock) -> Result<(), Complaint> {
        let Some(path) = self.file(key) else { return Ok(()) };
        let entry = CredentialsEntry {
            version: VERSION,
            obtained_at: kept.obtained_at,
            expires_at: kept.expires_at,
            answer: kept.credentials.form(),
        };
        let text = Zeroizing::new(serde_json::to_string(&entry).unwrap_or_default());
        self.sweep();
        files::write_private(&path, &text)
            .map_err(|error| format!("{NOT_CACHED}: {} cannot be written: {error}", path.display()))
    }

    pub(crate) fn remove(&self, key: &CacheKey) {
        if let Some(path) = self.file(key) {
            let _ = fs::remove_file(path);
        }
    }

    /// All cached credentials that can be read.
    pub(crate) fn all(&self) -> Vec<CachedCredential> {
        let read = |path: PathBuf| Some(CachedCredential { kept: Self::read(&path)?, path });
        self.entries().filter_map(read).collect()
    }

    /// Deletes the credential, unless another process has replaced it. Returns whether it did.
    pub(crate) fn remove_cached(cached: &CachedCredential) -> bool {
        let id = &cached.kept.credentials.request_id;
        let is_same =
            Self::read(&cached.path).is_some_and(|kept| kept.credentials.request_id == *id);
        is_same && fs::remove_file(&cached.path).is_ok()
    }

    /// The credential in a file of the cache.
    fn read(path: &Path) -> Option<Kept> {
        if path.extension().is_none_or(|name| name != "json") {
            return None;
        }
        let text = files::read_private(path, LONGEST).ok()??;
        let entry: CredentialsEntry<Secret> = serde_json::from_str(&text).ok()?;
        let credentials = Credentials::of(entry.answer).ok()?;
        Some(Kept { credentials, obtained_at: entry.obtained_at, expires_at: entry.expires_at })
    }

    /// Deletes the credentials for a project, whoever asked for them.
    pub(crate) fn forget(&self, registry: &str, project: &str) {
        for path in self.entries().collect::<Vec<_>>() {
            let credentials = Self::read(&path).map(|kept| kept.credentials);
            if credentials.is_some_and(|it| it.registry == registry && it.project == project) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Deletes the files of the cache and returns the number of credentials. A lock that another
    /// process holds stays.
    pub(crate) fn clear(&self) -> usize {
        let mut credentials = 0;
        for path in self.entries().collect::<Vec<_>>() {
            let extension = path.extension().and_then(|name| name.to_str()).unwrap_or_default();
            let is_free = || File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok());
            let is_ours = match extension {
                "json" | "list" => true,
                "lock" => is_free(),
                _ => false,
            };
            let is_removed = is_ours && fs::remove_file(&path).is_ok();
            credentials += usize::from(is_removed && extension == "json");
        }
        credentials
    }

    fn file(&self, key: &CacheKey) -> Option<PathBuf> {
        self.path(key, "json")
    }

    fn path(&self, key: &CacheKey, extension: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{}.{extension}", key.0)))
    }

    fn sweep(&self) {
        for path in self.entries() {
            let modified = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified());
            if modified.is_ok_and(|at| age(at) > OLDEST) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.directory.as_ref().and_then(|directory| fs::read_dir(directory).ok());
        files.into_iter().flatten().take(SWEPT).filter_map(Result::ok).map(|entry| entry.path())
    }
}

fn age(at: SystemTime) -> Duration {
    at.elapsed().unwrap_or_default()
}

#[cfg(test)]
mod tests;
