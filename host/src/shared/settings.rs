//! The values of `[shared]`. Their form and defaults: `config/shared.rs`.

use std::path::PathBuf;

use crate::domain::Renewable;

/// Where the store is, and who may read what is in it.
#[derive(Clone)]
pub struct SharedSettings {
    pub address: StoreAddress,
    pub tls: bool,
    pub database: u32,
    pub username: Option<String>,
    pub password: Renewable,
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

impl SharedSettings {
    /// Takes over the password of `newer` for the next connection, unless it is another user's or
    /// for another store.
    pub(crate) fn renew_password(&self, newer: &Self) {
        let place = |of: &Self| {
            let (address, user) = (of.address.clone(), of.username.clone());
            (address, of.sentinel_master.clone(), of.tls, of.ca_file.clone(), user)
        };
        if place(self) == place(newer) {
            self.password.renew_from(&newer.password);
        }
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreAddress {
    pub host: String,
    pub port: u16,
}
