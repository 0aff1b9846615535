//! The values of `[shared]`. Their form and defaults: `config/shared.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::Secret;

/// Where the store is, and who may read what is in it.
#[derive(Clone)]
pub struct SharedSettings {
    pub address: StoreAddress,
    pub tls: bool,
    pub database: u32,
    pub username: Option<String>,
    pub password: Option<Arc<Secret>>,
    /// The name by which Sentinels know the store; `address` is then theirs.
    pub sentinel_master: Option<String>,
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// The first names what is written, all of them find it. Never empty.
    pub key_files: Vec<PathBuf>,
    /// How many brokers share the store.
    pub replicas: u32,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    pub host: String,
    pub port: u16,
}
