//! Turns layers of files and variables into one checked [`Config`].
//!
//! Only this module reads settings files and the environment. [`file::SettingsFile`] is the form of
//! the settings; [`Config`] is what the rest of the program relies on. All problems are reported at
//! once. The settings of a provider stay a [`Node`] here; `registries` checks them when the
//! providers are loaded.
//!
//! Where settings types live: rooms below this one (`identity`, `limits`, `audit`, `telemetry`,
//! `rules`) define their own as plain values (`IdentitySettings`), never import `config`, and are
//! imported here. Everything that rooms above need is a type of this module: [`Edge`],
//! [`ProvidersConfig`], [`RegistryConfig`].
//!
//! To add a table: its form in `file`, a line in `draft`, its row in `docs/settings.md`.

mod cache;
mod contradictions;
mod doubts;
mod draft;
mod file;
mod foreign;
mod installed;
mod interpolate;
mod issuers;
mod layers;
mod listeners;
mod modes;
pub mod node;
mod owners;
mod places;
mod post;
mod providers;
mod registries;
mod repositories;
mod run_mode;
pub mod schema;
mod sections;
mod shared;
mod ship;
mod signing;
mod traces;
mod traffic;
mod unread;

pub use cache::{CacheConfig, RegistryCacheFile, Share};
pub use draft::Draft;
pub use file::{
    AcceptScope, AwsCeilingFile, HttpCeilingFile, LeftoverPolicy, RegistryKeys, Require,
    RevocationMeans, TlsFile, TokenCeilingFile, Wasi,
};
pub use layers::{Environment, environment, find_directory, parse_file, parse_toml};
pub use modes::readable;
pub use providers::{CallLimits, ProvidersConfig};
pub use registries::{RegistryConfig, authorities};
pub use repositories::{CreateRepositories, RepositoriesFile, TagMutability};
pub(crate) use ship::connection as postgres_connection;
pub use signing::SigningConfig;
pub use traffic::{Edge, Timeouts};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::audit::AuditSettings;
use crate::domain::RegistryName;
use crate::identity::IdentitySettings;
use crate::limits::LimitSettings;
use crate::rules::Rules;
use crate::shared::SharedSettings;
use crate::ship::ShipSettings;
use crate::telemetry::{LogConfig, TraceSettings};
use node::{Node, Problem, dotted};

#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub state_directory: PathBuf,
    pub tls: Option<TlsFile>,
    pub edge: Edge,
    /// The time during which `/readyz` returns 503 while connections are still accepted.
    pub drain_delay: Duration,
    pub limits: LimitSettings,
    pub providers: ProvidersConfig,
    /// Never empty.
    pub registries: BTreeMap<RegistryName, RegistryConfig>,
    pub identity: IdentitySettings,
    pub rules: Rules,
    pub audit: AuditSettings,
    /// Read at start only, except for its secrets.
    pub ship: Arc<ShipSettings>,
    /// Read at start only.
    pub cache: CacheConfig,
    /// Read at start only, except for its password. `None`: this broker shares nothing with others.
    pub shared: Option<SharedSettings>,
    /// `None`: this broker signs no tokens.
    pub signing: Option<SigningConfig>,
    pub log: LogConfig,
    /// Read at start only, except for its token. `None`: no traces are sent.
    pub traces: Option<Arc<TraceSettings>>,
    /// Warnings about settings that are valid but probably not intended.
    pub warnings: Vec<Problem>,
    /// Files outside the settings folder whose content is part of the settings.
    pub files: BTreeSet<PathBuf>,
    /// The origins of the settings, for problems that are found later.
    pub written: Written,
}

/// Knows the origin of each setting. It contains neither the registries nor the secrets of
/// `[shared]`, `[traces]` and `[audit.ship]`.
#[derive(Clone)]
pub struct Written(Node);

impl Written {
    /// Makes a problem with the setting at this JSON Pointer, even if the setting is missing.
    pub fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::at(&self.0.nearest(pointer).origin, dotted("", pointer), message)
    }

    /// Returns whether this top-level table is stated.
    pub(crate) fn has(&self, table: &str) -> bool {
        self.0.get(table).is_some()
    }

    /// Returns the keys of this top-level table that differ.
    pub fn changes(one: &Self, other: &Self, table: &str) -> BTreeSet<String> {
        let keys = |it: &Self| it.0.get(table).and_then(Node::table).cloned().unwrap_or_default();
        let (one, other) = (keys(one), keys(other));
        let value = |of: &BTreeMap<String, Node>, key: &String| of.get(key).map(Node::to_value);
        let all = one.keys().chain(other.keys());
        let changed = all.filter(|key| value(&one, key) != value(&other, key));
        changed.map(|key| format!("{table}.{key}")).collect()
    }
}

impl Config {
    /// Loads, merges and checks the settings. It reads only the settings files.
    pub fn load(directory: &Path, environment: &Environment) -> Result<Self, Vec<Problem>> {
        let draft = Draft::load(directory, environment)?;
        if draft.problems.is_empty() { Ok(draft.config) } else { Err(draft.problems) }
    }

    /// Gives the parts of the process that were started with these settings the secrets of `newer`,
    /// for their next connections. A secret goes only to the address that it is stated for; another
    /// address needs a restart.
    pub(crate) fn renew_secrets(&self, newer: &Self) {
        if let (Some(shared), Some(newer)) = (&self.shared, &newer.shared) {
            shared.renew_password(newer);
        }
        if let (Some(traces), Some(newer)) = (&self.traces, &newer.traces) {
            traces.target.renew_token(&newer.target);
        }
        self.ship.renew_secrets(&newer.ship);
    }
}
