//! The form of the settings. Each type here is also the schema for the settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::cache::{CacheFile, RegistryCacheFile};
use super::repositories::RepositoriesFile;
use super::shared::SharedFile;
use super::ship::ShipFile;
use super::signing::SigningFile;
use super::traces::TracesFile;
use super::traffic::{TimeoutsFile, TrafficFile};
use crate::domain::Scope;
use crate::identity::{Preset, Replay};
use crate::rules::{Mode, OperatorFile, RuleFile};
use crate::telemetry::LogFormat;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct SettingsFile {
    pub server: ServerFile,
    pub providers: ProvidersFile,
    /// Not read from here: the keys of the host and of the provider are checked separately.
    pub registries: BTreeMap<String, Map<String, Value>>,
    pub auth: AuthFile,
    pub rules: Vec<RuleFile>,
    pub operators: Vec<OperatorFile>,
    pub audit: AuditFile,
    pub cache: CacheFile,
    pub shared: SharedFile,
    pub signing: SigningFile,
    pub log: LogFile,
    pub traces: TracesFile,
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
    /// No warning if other machines reach `admin_listen`.
    pub admin_open: bool,
    pub state_directory: PathBuf,
    pub tls: Option<TlsFile>,
    /// Networks whose `X-Forwarded-For` the broker trusts.
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
            admin_open: false,
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

/// All other keys are names of providers.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct ProvidersFile {
    pub directory: PathBuf,
    pub require: Require,
    /// The default is `providers.lock` beside the settings.
    pub lock_file: Option<PathBuf>,
    /// Public keys of minisign.
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

/// The files of the folder that may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    Any,
    /// Only files in the lock file.
    Locked,
    /// Only files with a signature by one of `signing_keys`.
    Signed,
}

/// The WASI imports that a component may have. All of them are stubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wasi {
    /// The part of WASI that the Rust standard library always links.
    None,
    /// Also files and sockets, which are always closed, and random numbers.
    Stubbed,
}

/// The settings of one provider. Omitted keys are as for all providers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProviderFile {
    pub wasi: Option<Wasi>,
    pub limits: LimitsFile,
}

/// The limits of one provider call. Omitted keys are as in `[providers.limits]`, or the default.
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
    /// The audience of this deployment, which every token must have.
    pub audience: Option<String>,
    pub issuers: Vec<IssuerFile>,
}

/// One issuer. Omitted keys are as in the preset, or the default.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerFile {
    pub name: String,
    pub preset: Option<Preset>,
    /// The audience that its tokens must have, if not that of all issuers.
    pub audience: Option<String>,
    /// The `iss` of its tokens. Keys come from discovery unless `jwks_file` is set.
    pub issuer: Option<String>,
    pub jwks_file: Option<PathBuf>,
    /// The address of the discovery document, if it is not below `issuer`.
    pub discovery_url: Option<String>,
    /// An HTTP proxy for the requests to the issuer.
    pub proxy: Option<String>,
    /// Other hosts that may serve the issuer's keys.
    pub jwks_hosts: Option<Vec<String>>,
    /// Whether the issuer has a private address.
    pub internal: Option<bool>,
    /// A PEM file of the only authorities that may sign the issuer's certificate.
    pub ca_file: Option<PathBuf>,
    /// A file with the token that the issuer requires when its keys are fetched. It is sent to the
    /// host of the discovery document and to the `jwks_hosts` stated here.
    pub bearer_file: Option<PathBuf>,
    /// The private key of the built-in issuer `local`.
    pub key_file: Option<PathBuf>,
    pub algorithms: Option<Vec<String>>,
    #[serde(default)]
    pub mixed_algorithms: bool,
    pub token_types: Option<Vec<String>>,
    pub require_kid: Option<bool>,
    /// The longest time from `iat` to `exp`, in seconds.
    #[schemars(range(min = 1, max = 2_678_400))]
    pub max_lifetime: Option<u32>,
    /// The longest time since `iat`, in seconds.
    #[schemars(range(min = 1, max = 2_678_400))]
    pub max_age: Option<u32>,
    pub required_claims: Option<Vec<String>>,
    #[serde(default)]
    pub replay: Replay,
    #[serde(default)]
    pub mode: Mode,
}

/// `[audit]`: segments, checkpoints and disk space of the audit log.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuditFile {
    pub directory: Option<PathBuf>,
    /// The size at which a new segment begins.
    #[schemars(range(min = 1, max = 4096))]
    pub rotate_mib: u64,
    /// The age at which a new segment begins.
    #[schemars(range(min = 1, max = 10_080))]
    pub rotate_minutes: u64,
    /// The number of records after which a checkpoint is written.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub checkpoint_records: u64,
    /// The time after which a checkpoint is written, if there were records.
    #[schemars(range(min = 1, max = 3600))]
    pub checkpoint_seconds: u64,
    /// The broker warns if less of the disk is free.
    #[schemars(range(max = 100))]
    pub warn_free_percent: u64,
    /// The broker issues no credentials if less of the disk is free.
    #[schemars(range(max = 100))]
    pub refuse_free_percent: u64,
    pub ship: ShipFile,
}

impl Default for AuditFile {
    fn default() -> Self {
        Self {
            directory: None,
            rotate_mib: 256,
            rotate_minutes: 60,
            checkpoint_records: crate::audit::CHECKPOINT_RECORDS,
            checkpoint_seconds: 60,
            warn_free_percent: 20,
            refuse_free_percent: 5,
            ship: ShipFile::default(),
        }
    }
}

impl AuditFile {
    pub(super) fn settings(self, state: &Path) -> crate::audit::AuditSettings {
        crate::audit::AuditSettings {
            directory: self.directory.unwrap_or_else(|| state.join("audit")),
            state: state.to_owned(),
            rotate_bytes: self.rotate_mib.saturating_mul(1 << 20),
            rotate_after: Duration::from_secs(self.rotate_minutes.saturating_mul(60)),
            checkpoint_records: self.checkpoint_records,
            checkpoint_after: Duration::from_secs(self.checkpoint_seconds),
            summary_after: Duration::from_secs(10),
            warn_free_percent: self.warn_free_percent,
            refuse_free_percent: self.refuse_free_percent,
            is_of_commands: false,
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

/// The keys of a registry that belong to the host. They are removed before the provider's schema
/// checks the table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct RegistryKeys {
    pub location: Option<String>,
    /// The most path components of a project.
    #[schemars(range(min = 1, max = 32))]
    pub project_depth: Option<u8>,
    pub accept_scope: Option<AcceptScope>,
    pub trust_provider: bool,
    pub accept_endless: bool,
    #[schemars(range(min = 60, max = 43_200))]
    pub max_lifetime: Option<u32>,
    pub source_identity: bool,
    pub session_tags: bool,
    /// How an operator's revocation ends a credential that AWS does not end. Without it: not.
    pub revocation: Option<RevocationMeans>,
    /// What the broker does with credentials at the registry that it has no record of. The default
    /// is `report`.
    pub leftovers: Option<LeftoverPolicy>,
    pub ceiling: CeilingFile,
    pub cache: RegistryCacheFile,
    /// What the broker does with the repositories of this registry. Without it: nothing.
    pub repositories: Option<RepositoriesFile>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationMeans {
    /// An inline policy of the push role denies everything to the session.
    DenyPolicy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeftoverPolicy {
    /// The broker does not look for them.
    Off,
    /// The broker logs and counts them.
    #[default]
    Report,
    /// The broker ends them.
    End,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CeilingFile {
    pub aws: Option<AwsCeilingFile>,
    pub http: Option<HttpCeilingFile>,
    pub tokens: Option<TokenCeilingFile>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsCeilingFile {
    /// The roles that may be assumed.
    #[schemars(length(min = 1))]
    pub roles: Vec<String>,
    /// The ARNs that may be used, with `{project}`.
    #[schemars(length(min = 1))]
    pub resources: Vec<String>,
    pub pull: Vec<String>,
    pub push: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpCeilingFile {
    /// Endpoints such as `POST https://registry.example.com/api/tokens`. The default is everything
    /// at the origin of `base_url`.
    #[schemars(length(min = 1, max = 64))]
    pub allow: Option<Vec<String>>,
    /// Whether private and loopback addresses are allowed, also with `http://`.
    pub private: bool,
    /// An HTTP proxy for requests over `https://`.
    pub proxy: Option<String>,
    /// A PEM file of the only authorities that may sign the certificates of the endpoints.
    pub ca_file: Option<PathBuf>,
}

/// The tokens that a provider may have signed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenCeilingFile {
    /// The registries whose tokens it may ask for, by their `service`. The default is the setting
    /// `service` of the provider, or else the host of `registry_url`. An empty list: none.
    #[schemars(length(max = 16))]
    pub services: Option<Vec<String>>,
    /// The clouds whose tokens it may ask for, by their `audience`. The default is the setting
    /// `audience` of the provider.
    #[schemars(length(max = 16))]
    pub audiences: Option<Vec<String>>,
}

impl RegistryKeys {
    pub const NAMES: [&str; 13] = [
        "location",
        "project_depth",
        "accept_scope",
        "trust_provider",
        "accept_endless",
        "max_lifetime",
        "source_identity",
        "session_tags",
        "revocation",
        "leftovers",
        "ceiling",
        "cache",
        "repositories",
    ];
}
