//! The keys of issuers: the port [`Keys`] and its adapters.
//!
//! `set` parses a key set and `key` its keys, `source` is the port of a fetch, `discovery` fetches
//! a key set (`address` says from where), `cache` keeps and renews it. [`FixedKeys`] are keys that
//! do not change: a file, or the broker's own key.
//!
//! **Invariant:** a wrong signature never causes a fetch. An unknown `kid` causes at most one fetch
//! a minute.

mod address;
mod cache;
mod discovery;
mod key;
mod set;
mod source;

pub(crate) use cache::CachedKeys;
pub(crate) use cache::{FETCH_DEADLINE, PATIENCE};
pub(crate) use discovery::Discovery;
pub use key::IssuerKey;
pub(super) use set::LARGEST_SET;
pub use set::{InvalidKeySet, KeySet, NoKey};
pub(crate) use source::{FetchError, KeySource};

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::files;

/// How the fetches of an issuer's keys went so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetches {
    /// The age of the keys in use; `None` before the first successful fetch.
    pub(crate) age_seconds: Option<i64>,
    pub(crate) worked: u64,
    pub(crate) failed: u64,
}

/// The keys of one issuer.
#[async_trait]
pub(crate) trait Keys: Send + Sync {
    /// The key with this `kid`, or without a `kid` the only key.
    async fn find(&self, kid: Option<&str>) -> Result<Arc<IssuerKey>, NoKey>;

    /// Starts to fetch keys if there are none, and returns at once.
    fn prefetch(&self) {}

    fn is_ready(&self) -> bool {
        true
    }

    /// `None` for keys that are not fetched.
    fn fetched(&self) -> Option<Fetches> {
        None
    }
}

pub(crate) struct FixedKeys(KeySet);

impl FixedKeys {
    pub(crate) fn new(set: KeySet) -> Self {
        Self(set)
    }
}

#[async_trait]
impl Keys for FixedKeys {
    async fn find(&self, kid: Option<&str>) -> Result<Arc<IssuerKey>, NoKey> {
        self.0.find(kid)
    }
}

/// Logs which keys of a set are not used, unless the set before it had the same ones.
pub(super) fn log_left_out(issuer: &str, set: &KeySet, before: Option<&KeySet>) {
    let texts = |set: &KeySet| set.left_out().map(ToString::to_string).collect::<Vec<_>>();
    let left_out = texts(set);
    if !left_out.is_empty() && before.map(texts).as_ref() != Some(&left_out) {
        let (count, keys) = (left_out.len(), super::shown(&left_out.join("; ")));
        tracing::warn!(issuer, count, keys, "some of the issuer's keys cannot be used");
    }
}

/// Reads the file of a key set.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    files::read(path, LARGEST_SET as u64)
}

/// Reads a file of certificates. The bundle of a whole system has about 220 KiB.
pub(super) fn read_authorities(path: &Path) -> io::Result<Vec<u8>> {
    files::read(path, 1 << 20)
}
