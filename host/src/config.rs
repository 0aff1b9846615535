//! Turns layers of files and variables into one checked [`Config`].
//!
//! Only this module reads settings files and the environment. [`file::SettingsFile`] is the form of
//! the settings; [`Config`] is what the rest of the program relies on. All problems are reported at
//! once. The settings of a provider stay a [`Node`] here; `registries` checks them when the
//! providers are loaded.

mod file;
mod interpolate;
mod issuers;
mod layers;
pub mod node;
mod providers;
pub mod schema;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::PublicKey;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::domain::{RegistryName, TrustedProxies};
use crate::identity::IdentitySettings;
use crate::limits;
use crate::rules::{GuardrailFile, Known, RuleFile, Rules};
use crate::telemetry::LogConfig;
pub use file::{
    AcceptScope, AwsCeilingFile, HttpCeilingFile, RegistryKeys, Require, TlsFile, Wasi,
};
use file::{
    AuditFile, AuthFile, LimitsFile, LogFile, ProviderFile, ProvidersFile, ServerFile, SettingsFile,
};
pub use layers::{Environment, environment, parse_file, parse_toml};
use node::{Node, Origin, Problem, dotted};
use schema::Schema;
use traffic::TrafficFile;
pub use traffic::{Edge, Timeouts};

#[derive(Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub state_directory: PathBuf,
    pub tls: Option<TlsFile>,
    pub edge: Edge,
    /// The time during which `/readyz` returns 503 while connections are still accepted.
    pub drain_delay: Duration,
    pub limits: limits::LimitSettings,
    pub providers: ProvidersConfig,
    /// Never empty.
    pub registries: BTreeMap<RegistryName, RegistryConfig>,
    pub identity: IdentitySettings,
    pub rules: Rules,
    pub audit: crate::audit::AuditSettings,
    pub log: LogConfig,
    /// Warnings about settings that are valid but probably not intended.
    pub warnings: Vec<Problem>,
    /// The origins of the settings, for problems that are found later.
    pub written: Written,
}

#[derive(Clone)]
pub struct ProvidersConfig {
    pub directory: PathBuf,
    /// The origin of `directory`, for messages.
    pub origin: Origin,
    pub require: Require,
    pub lock_file: PathBuf,
    pub lock_origin: Origin,
    /// Not empty if signatures are required.
    pub signing_keys: Vec<PublicKey>,
    wasi: Wasi,
    limits: LimitsFile,
    named: BTreeMap<String, ProviderFile>,
}

/// One registry of the settings. The host's keys are checked, the provider's are not.
#[derive(Clone)]
pub struct RegistryConfig {
    /// The provider's name or one of its aliases.
    pub provider: String,
    pub type_origin: Origin,
    pub keys: RegistryKeys,
    /// Whether `keys` are valid. In a [`Draft`] they may be defaults in place of invalid ones.
    pub keys_are_right: bool,
    pub settings: Node,
    /// The whole table, for the origins of problems.
    pub written: Node,
}

/// The limits of one provider call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLimits {
    pub cpu: std::time::Duration,
    pub wall: std::time::Duration,
    /// The sum of all memories in bytes.
    pub memory: usize,
    pub table_elements: usize,
    pub handles: usize,
    /// Bytes that a guest may pass to one host call.
    pub host_call: usize,
    /// Bytes of the result of `describe`. The result of `issue` has lower limits.
    pub result: usize,
    pub log_lines: usize,
    pub log_line: usize,
    pub aws_calls: usize,
    pub http_calls: usize,
    /// The size of the component's file in bytes.
    pub file: u64,
}

/// Settings together with their problems. The valid parts can be checked further, to report all
/// problems at once.
pub struct Draft {
    /// Valid only if there are no problems.
    pub config: Config,
    pub problems: Vec<Problem>,
    /// The top-level tables with problems; `config` has their defaults.
    broken: BTreeSet<String>,
}

/// Knows the origin of each setting. It does not contain the registries, which may contain secrets.
#[derive(Clone)]
pub struct Written(Node);

impl Written {
    /// Makes a problem with the setting at this JSON Pointer, even if the setting is missing.
    pub fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::at(&self.0.nearest(pointer).origin, dotted("", pointer), message)
    }
}

impl Written {
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
}

impl Draft {
    /// Like [`Config::load`]. An error means that nothing can be checked further.
    pub fn load(directory: &Path, environment: &Environment) -> Result<Self, Vec<Problem>> {
        Self::of_node(layers::load(directory, environment)?, directory, environment)
    }

    /// Checks a single tree of settings, without layers and `RISE_` variables. It replaces `${…}`.
    pub fn of_node(
        mut node: Node,
        directory: &Path,
        environment: &Environment,
    ) -> Result<Self, Vec<Problem>> {
        let mut sections = Sections::new(&mut node, environment)?;
        let server: ServerFile = sections.take("server");
        let providers: ProvidersFile = sections.take("providers");
        let auth: AuthFile = sections.take("auth");
        let rules = sections.take("rules");
        let audit: AuditFile = sections.take("audit");
        let log: LogFile = sections.take("log");
        let mut traffic: TrafficFile = sections.take("limits");
        let policy = std::mem::take(&mut traffic.policy);
        let (mut problems, broken) = (sections.problems, sections.broken);
        let registries = registries(&node, &sections.unfilled, &mut problems);
        let longest = policy.max_token_lifetime;
        let known = issuers::known(&node, &auth.issuers);
        let rules = parse_rules(&node, rules, policy, &known, &mut problems);
        let identity = issuers::identity(&node, auth, longest, &mut problems);
        let written = Written(without_registries(node));
        let proxies = trusted_proxies(&server, &written, &mut problems);
        let limits = traffic.settings(&registries, &written, &mut problems);
        problems
            .extend(log_level(&log.level).map(|message| written.problem("/log/level", message)));
        if registries.is_empty() && problems.is_empty() {
            let message =
                "no registry is configured; add a table such as [registries.prod] with a `type`";
            problems.push(written.problem("/registries", message));
        }
        let warnings = warnings(&written.0, &identity, &rules);
        let providers = providers::config(directory, providers, &written, &mut problems);
        let state_directory = server.state_directory;
        let config = Config {
            listen: server.listen,
            admin_listen: server.admin_listen,
            tls: server.tls,
            edge: Edge {
                timeouts: server.timeouts.settings(),
                connections: server.connections,
                connections_per_address: server.connections_per_address,
                trusted_proxies: proxies,
            },
            drain_delay: Duration::from_millis(server.drain_delay_ms),
            limits,
            providers,
            registries,
            identity,
            rules,
            audit: audit.settings(&state_directory),
            state_directory,
            log: LogConfig { level: log.level, format: log.format },
            warnings,
            written,
        };
        Ok(Self { config, problems, broken })
    }

    /// Makes a draft with a problem that was found elsewhere.
    pub fn of(config: Config, problem: Problem) -> Self {
        Self { config, problems: vec![problem], broken: BTreeSet::new() }
    }

    /// Returns whether this top-level table has a default in place of invalid settings.
    pub fn is_broken(&self, section: &str) -> bool {
        self.broken.contains(section)
    }
}

fn trusted_proxies(
    server: &ServerFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> TrustedProxies {
    TrustedProxies::parse(server.trusted_proxies.iter().map(String::as_str)).unwrap_or_else(
        |wrong| {
            let message =
                format!("`{wrong}` is neither a network such as \"10.0.0.0/8\" nor an address");
            problems.push(written.problem("/server/trusted_proxies", message));
            TrustedProxies::default()
        },
    )
}

/// The top-level tables. Each is read separately, so an invalid one does not hide problems of
/// another.
struct Sections {
    values: Value,
    problems: Vec<Problem>,
    broken: BTreeSet<String>,
    /// Keys with a `${…}` that could not be replaced.
    unfilled: BTreeSet<String>,
    root: Node,
}

impl Sections {
    fn new(node: &mut Node, environment: &Environment) -> Result<Self, Vec<Problem>> {
        let mut problems = interpolate::interpolate(node, environment);
        let schema = Schema::new(schemars::schema_for!(SettingsFile).to_value())
            .map_err(|error| vec![bug(&error)])?;
        let (values, more) = schema.read(node, "");
        // A `${…}` that could not be replaced has no type.
        let unfilled: BTreeSet<String> =
            problems.iter().map(|problem| problem.key.clone()).collect();
        problems.extend(more.into_iter().filter(|problem| !unfilled.contains(&problem.key)));
        let section = |it: &Problem| it.key.split('.').next().unwrap_or_default().to_owned();
        let broken = problems.iter().map(section).collect();
        Ok(Self { values, problems, broken, unfilled, root: node.clone() })
    }

    fn take<T: DeserializeOwned + Default>(&mut self, name: &str) -> T {
        let value = self.values.get_mut(name).filter(|_| !self.broken.contains(name));
        let Some(value) = value.map(Value::take) else { return T::default() };
        schema::deserialize(value, self.root.nearest(&format!("/{name}")), name).unwrap_or_else(
            |problem| {
                self.problems.push(problem);
                self.broken.insert(name.to_owned());
                T::default()
            },
        )
    }
}

fn without_registries(mut root: Node) -> Node {
    if let Some(map) = root.table_mut() {
        map.remove("registries");
    }
    root
}

/// Returns the problem with a level. The filter would silently treat an unknown word as a module
/// name.
fn log_level(level: &str) -> Option<String> {
    let is_level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"]
            .contains(&word.to_ascii_lowercase().as_str())
    };
    let is_directive = |word: &str| word.contains('=') || is_level(word.trim());
    let is_right = level.split(',').all(is_directive) && EnvFilter::builder().parse(level).is_ok();
    (!is_right).then(|| {
        "expected a level, one of error, warn, info, debug, trace, off, or directives such as \
         `info,rise_broker=debug`"
            .to_owned()
    })
}

impl ProvidersConfig {
    /// Limits that fit components of every language, to inspect a single file without settings.
    pub fn roomy() -> Self {
        let limits = LimitsFile {
            cpu_ms: Some(2_000),
            memory_mib: Some(256),
            file_mib: Some(64),
            ..LimitsFile::default()
        };
        let origin = Origin::file("this command");
        Self {
            directory: PathBuf::new(),
            origin: origin.clone(),
            require: Require::Any,
            lock_file: PathBuf::new(),
            lock_origin: origin,
            signing_keys: Vec::new(),
            wasi: Wasi::Stubbed,
            limits,
            named: BTreeMap::new(),
        }
    }

    /// Returns the limits of the provider with this name.
    pub fn limits(&self, name: &str) -> CallLimits {
        limits(self.named.get(name).map_or(&self.limits, |provider| &provider.limits), &self.limits)
    }

    /// Returns the WASI imports that the provider with this name may have.
    pub fn wasi(&self, name: &str) -> Wasi {
        self.named.get(name).and_then(|provider| provider.wasi).unwrap_or(self.wasi)
    }

    /// Returns the widest WASI setting of all providers, because the name of a provider is unknown
    /// until it is loaded.
    pub fn widest_wasi(&self) -> Wasi {
        let named = self.named.values().filter_map(|provider| provider.wasi);
        named.fold(self.wasi, std::cmp::Ord::max)
    }

    /// Returns limits that are large enough for every provider; they determine the size of the
    /// pool.
    pub fn widest(&self) -> CallLimits {
        let mut widest = self.limits("");
        for name in self.named.keys() {
            let limits = self.limits(name);
            widest.cpu = widest.cpu.max(limits.cpu);
            widest.wall = widest.wall.max(limits.wall);
            widest.handles = widest.handles.max(limits.handles);
            widest.host_call = widest.host_call.max(limits.host_call);
            widest.result = widest.result.max(limits.result);
            widest.memory = widest.memory.max(limits.memory);
            widest.table_elements = widest.table_elements.max(limits.table_elements);
            widest.file = widest.file.max(limits.file);
        }
        widest
    }
}

fn limits(own: &LimitsFile, all: &LimitsFile) -> CallLimits {
    let pick = |of: fn(&LimitsFile) -> Option<u64>, default| {
        of(own).or_else(|| of(all)).unwrap_or(default)
    };
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    CallLimits {
        cpu: std::time::Duration::from_millis(pick(|file| file.cpu_ms, 100)),
        wall: std::time::Duration::from_millis(pick(|file| file.wall_ms, 8_000)),
        memory: size(pick(|file| file.memory_mib, 64).saturating_mul(1 << 20)),
        table_elements: size(pick(|file| file.table_elements, 20_000)),
        handles: size(pick(|file| file.handles, 1_000)),
        host_call: size(pick(|file| file.host_call_kib, 2_048).saturating_mul(1 << 10)),
        result: size(pick(|file| file.result_kib, 64).saturating_mul(1 << 10)),
        log_lines: size(pick(|file| file.log_lines, 32)),
        log_line: size(pick(|file| file.log_line_bytes, 512)),
        aws_calls: size(pick(|file| file.aws_calls, 4)),
        http_calls: size(pick(|file| file.http_calls, 8)),
        file: pick(|file| file.file_mib, 32).saturating_mul(1 << 20),
    }
}

fn bug(error: &impl std::fmt::Display) -> Problem {
    Problem::new(
        "this program",
        "",
        format!("cannot read its own settings schema, please report it: {error}"),
    )
}

/// Returns the valid registries.
fn registries(
    root: &Node,
    unfilled: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<RegistryName, RegistryConfig> {
    let schema = Schema::new(schemars::schema_for!(RegistryKeys).to_value());
    let mut registries = BTreeMap::new();
    for (name, node) in root.get("registries").and_then(Node::table).into_iter().flatten() {
        let key = format!("registries.{name}");
        let name: RegistryName = match name.parse() {
            Ok(name) => name,
            Err(error) => {
                let message = format!("not a valid name for a registry: {error}");
                problems.push(Problem::at(&node.origin, key, message));
                continue;
            }
        };
        let short = Problem::at(&node.origin, &key, "").key;
        let inside =
            |it: &String| [&key, &short].iter().any(|key| it.starts_with(&format!("{key}.")));
        match &schema {
            Ok(schema) => registries.extend(
                registry(node, &key, schema, problems)
                    .filter(|_| !unfilled.iter().any(inside))
                    .map(|registry| (name, registry)),
            ),
            Err(error) => problems.push(bug(error)),
        }
    }
    registries
}

/// Separates the host's keys from the table of a registry. A table without `type` is invalid.
fn registry(
    node: &Node,
    key: &str,
    schema: &Schema,
    problems: &mut Vec<Problem>,
) -> Option<RegistryConfig> {
    let mut settings = node.clone();
    let mut own = Node::empty_table(node.origin.clone());
    // The schema of `SettingsFile` has reported a value that is not a table.
    let (theirs, ours) = (settings.table_mut()?, own.table_mut()?);
    let r#type = theirs.remove("type");
    for name in RegistryKeys::NAMES {
        ours.extend(theirs.remove_entry(name));
    }
    let (value, wrong) = schema.read(&own, key);
    let keys = if wrong.is_empty() {
        schema::deserialize(value, &own, key).map_err(|problem| vec![problem])
    } else {
        Err(wrong)
    };
    let keys_are_right = keys.is_ok();
    let keys = keys.unwrap_or_else(|wrong| {
        problems.extend(wrong);
        RegistryKeys::default()
    });
    let missing = "missing; name the provider of this registry, such as \"ecr\" or \"oci\"";
    let untyped = "wrong type, expected text in quotes, such as \"ecr\" or \"oci\"";
    let (origin, message) = match &r#type {
        Some(it) => match it.text() {
            Some(name) => {
                let (provider, type_origin) = (name.to_owned(), it.origin.clone());
                let written = node.clone();
                return Some(RegistryConfig {
                    provider,
                    type_origin,
                    keys,
                    keys_are_right,
                    settings,
                    written,
                });
            }
            None => (&it.origin, untyped),
        },
        None => (&node.origin, missing),
    };
    problems.push(Problem::at(origin, format!("{key}.type"), message));
    None
}

fn parse_rules(
    root: &Node,
    files: Vec<RuleFile>,
    guardrail: GuardrailFile,
    known: &Known,
    problems: &mut Vec<Problem>,
) -> Rules {
    Rules::parse_within(files, guardrail, known).unwrap_or_else(|more| {
        problems
            .extend(more.into_iter().map(|problem| placed(root, &problem.path, problem.message)));
        Rules::default()
    })
}

/// Adds the origin to a problem.
fn placed(root: &Node, pointer: &str, message: String) -> Problem {
    Problem::at(&root.nearest(pointer).origin, dotted("", pointer), message)
}

fn warnings(root: &Node, identity: &IdentitySettings, rules: &Rules) -> Vec<Problem> {
    let rule =
        |warning: &crate::rules::RuleProblem| placed(root, &warning.path, warning.message.clone());
    let mut warnings: Vec<Problem> = rules.warnings().iter().map(rule).collect();
    for (index, issuer) in identity.issuers.iter().enumerate() {
        let of = |warning| {
            let message = format!("issuer `{}`: {warning}", issuer.name);
            placed(root, &format!("/auth/issuers/{index}"), message)
        };
        warnings.extend(issuer.warnings().into_iter().map(of));
    }
    let nobody = match (identity.issuers.is_empty(), rules.iter().next().is_none()) {
        (true, true) => Some("there is no issuer under [auth] and no rule"),
        (true, false) => Some("there is no issuer under [auth]"),
        (false, true) => Some("there is no rule"),
        (false, false) => None,
    };
    if let Some(missing) = nobody {
        warnings.push(Problem::new(
            &root.origin.source,
            "",
            format!("{missing}: nobody will be granted anything"),
        ));
    }
    warnings
}
