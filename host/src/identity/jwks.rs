//! Where the keys of issuers come from: the port [`Keys`] and its adapters.
//!
//! `key` is one public key and a set of them, `cache` keeps a fetched set, `discovery` fetches one. A set that does not
//! change (a file, the broker's own key) is [`FixedKeys`].
//!
//! **Invariant:** a wrong signature never makes us fetch; an unknown `kid` does at most once a minute.

mod cache;
mod discovery;
mod key;
mod source;

pub use cache::CachedKeys;
pub use discovery::{Discovery, InvalidIssuer};
pub use key::{InvalidKeySet, Key, KeySet};
pub use source::{FetchError, KeySource};

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

/// How fetching an issuer's keys has gone so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetches {
    /// Of the keys in use; `None` before the first fetch that worked.
    pub age_seconds: Option<i64>,
    pub worked: u64,
    pub failed: u64,
}

/// The keys of one issuer.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The key of this `kid`. Without one, the only key there is.
    async fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, NoKey>;

    /// Starts to get what is missing, and returns at once.
    fn prefetch(&self) {}

    fn is_ready(&self) -> bool {
        true
    }

    /// `None`: keys that do not change.
    fn fetched(&self) -> Option<Fetches> {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has no such key.
    Unknown,
    /// No key was named, and there are several.
    Unnamed,
    /// It cannot be known now.
    Unavailable,
}

pub struct FixedKeys(KeySet);

impl FixedKeys {
    pub fn new(set: KeySet) -> Self {
        Self(set)
    }
}

#[async_trait]
impl Keys for FixedKeys {
    async fn find(&self, kid: Option<&str>) -> Result<Arc<Key>, NoKey> {
        self.0.find(kid)
    }
}

/// A key set is a few KiB (GitHub's 5); what is larger is refused, not cut short.
pub(super) const LARGEST_SET: usize = 100 * 1024;

/// Reads a key set's file, one byte past the limit at most: the parser refuses what is too large.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_SET as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
