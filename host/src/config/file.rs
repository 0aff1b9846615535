//! What may be written in the settings. Each type here is also the schema that settings are checked against.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::traffic::{TimeoutsFile, TrafficFile};
use crate::domain::Scope;
use crate::identity::{Preset, Replay};
use crate::rules::{Mode, RuleFile};
use crate::telemetry::LogFormat;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct File {
    pub server: ServerFile,
    pub providers: ProvidersFile,
    /// Not read from here: the host's keys and the provider's are checked one by one.
    pub registries: BTreeMap<String, Map<String, Value>>,
    pub auth: AuthFile,
    pub rules: Vec<RuleFile>,
    pub audit: AuditFile,
    pub log: LogFile,
    pub limits: TrafficFile,
}

const ADDRESS: &str = "an IP address and a port, such as \"127.0.0.1:3000\" or \"[::]:3000\"";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerFile {
    #[schemars(with = "String", extend("format" = "socket-address", "x-expected" = ADDRESS))]
    pub listen: SocketAddr,
    #[schemars(with = "String", extend("format" = "socket-address", "x-expected" = ADDRESS))]
    pub admin_listen: SocketAddr,
    pub state_directory: PathBuf,
    pub tls: Option<TlsFile>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: usize,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_address: usize,
    #[schemars(range(max = 600_000))]
    pub drain_delay_ms: u64,
    pub timeouts: TimeoutsFile,
}

impl Default for ServerFile {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 3001)),
            state_directory: "state".into(),
            tls: None,
            trusted_proxies: Vec::new(),
            connections: 4096,
            connections_per_address: 64,
            drain_delay_ms: 5_000,
            timeouts: TimeoutsFile::default(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFile {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// Other keys than these are names of providers.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ProvidersFile {
    pub directory: PathBuf,
    pub require: Require,
    /// By default `providers.lock` beside the settings.
    pub lock_file: Option<PathBuf>,
    /// Public keys of `minisign`.
    pub signing_keys: Vec<String>,
    pub wasi: Wasi,
    pub limits: LimitsFile,
    #[serde(flatten)]
    pub named: BTreeMap<String, ProviderFile>,
}

impl Default for ProvidersFile {
    fn default() -> Self {
        Self {
            directory: "dist/providers".into(),
            require: Require::Any,
            lock_file: None,
            signing_keys: Vec::new(),
            wasi: Wasi::None,
            limits: LimitsFile::default(),
            named: BTreeMap::new(),
        }
    }
}

/// Which files of the folder are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    Any,
    /// Those in the lock file.
    Locked,
    /// Those with a signature by one of `signing_keys`.
    Signed,
}

/// How much of WASI a component may import. None of it leads anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wasi {
    /// What the standard library of Rust links in any case.
    None,
    /// Files and sockets too, closed, and random numbers.
    Stubbed,
}

/// What is left out is as for all providers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProviderFile {
    pub wasi: Option<Wasi>,
    pub limits: LimitsFile,
}

/// What one call of a provider may use. What is left out is as in `[providers.limits]`, or the default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsFile {
    pub cpu_ms: Option<u64>,
    pub wall_ms: Option<u64>,
    pub memory_mib: Option<u64>,
    pub table_elements: Option<u64>,
    pub handles: Option<u64>,
    pub host_call_kib: Option<u64>,
    pub result_kib: Option<u64>,
    pub log_lines: Option<u64>,
    pub log_line_bytes: Option<u64>,
    pub aws_calls: Option<u64>,
    pub http_calls: Option<u64>,
    pub file_mib: Option<u64>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuthFile {
    /// Of this deployment; every token must carry it.
    pub audience: Option<String>,
    pub issuers: Vec<IssuerFile>,
}

/// What is left out is as the preset says, or the default.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerFile {
    pub name: String,
    pub preset: Option<Preset>,
    /// The `iss` of its tokens, found by discovery unless `jwks_file` is there.
    pub issuer: Option<String>,
    pub jwks_file: Option<PathBuf>,
    /// Other hosts than the issuer's own that its keys may be fetched from.
    pub jwks_hosts: Option<Vec<String>>,
    /// Whether it is at a private address.
    pub internal: Option<bool>,
    /// PEM; the only authorities that it is trusted by then.
    pub ca_file: Option<PathBuf>,
    /// A token to show to it when its keys are fetched.
    pub bearer_file: Option<PathBuf>,
    /// The private key of the built-in issuer `local`.
    pub key_file: Option<PathBuf>,
    pub algorithms: Option<Vec<String>>,
    #[serde(default)]
    pub mixed_algorithms: bool,
    pub token_types: Option<Vec<String>>,
    pub require_kid: Option<bool>,
    /// Seconds from `iat` to `exp`.
    #[schemars(range(min = 1, max = 604_800))]
    pub max_lifetime: Option<u32>,
    /// Seconds since `iat`.
    #[schemars(range(min = 1, max = 604_800))]
    pub max_age: Option<u32>,
    pub required_claims: Option<Vec<String>>,
    #[serde(default)]
    pub replay: Replay,
    #[serde(default)]
    pub mode: Mode,
}

/// What all requests together may do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuditFile {
    pub directory: Option<PathBuf>,
    /// A new segment begins at this size,
    #[schemars(range(min = 1, max = 4096))]
    pub rotate_mib: u64,
    /// or at this age.
    #[schemars(range(min = 1, max = 10_080))]
    pub rotate_minutes: u64,
    /// A signed checkpoint after this many records,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub checkpoint_records: u64,
    /// or after this time, if there were any.
    #[schemars(range(min = 1, max = 3600))]
    pub checkpoint_seconds: u64,
    /// With less of the disk left than this, warn;
    #[schemars(range(max = 100))]
    pub warn_free_percent: u64,
    /// with less than this, make no credentials.
    #[schemars(range(max = 100))]
    pub refuse_free_percent: u64,
}

impl Default for AuditFile {
    fn default() -> Self {
        Self {
            directory: None,
            rotate_mib: 256,
            rotate_minutes: 60,
            checkpoint_records: 10_000,
            checkpoint_seconds: 60,
            warn_free_percent: 20,
            refuse_free_percent: 5,
        }
    }
}

impl AuditFile {
    pub(super) fn settings(self, state: &Path) -> crate::audit::Settings {
        crate::audit::Settings {
            directory: self.directory.unwrap_or_else(|| state.join("audit")),
            state: state.to_owned(),
            rotate_bytes: self.rotate_mib.saturating_mul(1 << 20),
            rotate_after: Duration::from_secs(self.rotate_minutes.saturating_mul(60)),
            checkpoint_records: self.checkpoint_records,
            checkpoint_after: Duration::from_secs(self.checkpoint_seconds),
            summary_after: Duration::from_secs(10),
            warn_free_percent: self.warn_free_percent,
            refuse_free_percent: self.refuse_free_percent,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogFile {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,rise_broker=debug`.
    pub level: String,
    pub format: LogFormat,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Json }
    }
}

/// The keys of a registry that are the host's. They are taken out before the provider's schema sees the table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryKeys {
    pub location: Option<String>,
    pub accept_scope: Option<AcceptScope>,
    pub trust_provider: bool,
    #[schemars(range(min = 60, max = 43_200))]
    pub max_lifetime: Option<u32>,
    pub source_identity: bool,
    pub session_tags: bool,
    pub ceiling: CeilingFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceptScope {
    Namespace,
    Registry,
}

impl From<AcceptScope> for Scope {
    fn from(accepted: AcceptScope) -> Self {
        match accepted {
            AcceptScope::Namespace => Self::Namespace,
            AcceptScope::Registry => Self::Registry,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CeilingFile {
    pub aws: Option<AwsCeilingFile>,
    pub http: Option<HttpCeilingFile>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsCeilingFile {
    /// Roles that may be assumed.
    #[schemars(length(min = 1))]
    pub roles: Vec<String>,
    /// ARNs with `{project}`.
    #[schemars(length(min = 1))]
    pub resources: Vec<String>,
    pub pull: Vec<String>,
    pub push: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpCeilingFile {
    /// Such as `POST https://registry.example.com/api/tokens`. Left out: everything at the origin of `base_url`.
    #[schemars(length(min = 1, max = 64))]
    pub allow: Option<Vec<String>>,
    /// Whether private addresses and this machine's own may be asked, by `http://` too.
    pub private: bool,
}

impl RegistryKeys {
    pub const NAMES: [&str; 7] = [
        "location",
        "accept_scope",
        "trust_provider",
        "max_lifetime",
        "source_identity",
        "session_tags",
        "ceiling",
    ];
}
