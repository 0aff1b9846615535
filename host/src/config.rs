//! Settings: layers of files and variables in, one checked [`Config`] out.
//!
//! The only reader of settings files and of the environment. [`file::File`] is what may be written, [`Config`] is what
//! the rest of the program may rely on. All problems are reported at once. What only a provider can judge, its own
//! settings, stays a [`Node`] here; `registries` checks it once the providers are loaded.

mod file;
mod interpolate;
mod layers;
pub mod node;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::domain::RegistryName;
use crate::identity::{Algorithm, IssuerSettings, Settings as IdentitySettings, Source};
use crate::rules::{Known, RuleFile, Rules};
pub use file::{AcceptScope, AwsCeilingFile, LogFormat, RegistryKeys, TlsFile};
use file::{AuthFile, File, IssuerFile, LimitsFile};
pub use layers::{Environment, environment};
use node::{Node, Origin, Problem, dotted};
use schema::Schema;

pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub state_directory: PathBuf,
    pub tls: Option<TlsFile>,
    pub providers: ProvidersConfig,
    /// Never empty.
    pub registries: BTreeMap<RegistryName, RegistryConfig>,
    pub identity: IdentitySettings,
    pub rules: Rules,
    pub audit_directory: PathBuf,
    pub log: LogConfig,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
}

pub struct ProvidersConfig {
    pub directory: PathBuf,
    /// Where `directory` was stated, for messages.
    pub origin: Origin,
    limits: LimitsFile,
    named: BTreeMap<String, LimitsFile>,
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    pub level: String,
    pub format: LogFormat,
}

/// One registry as it was written: the host's keys checked, the provider's not yet.
pub struct RegistryConfig {
    /// The provider's name or one of its aliases.
    pub provider: String,
    pub type_origin: Origin,
    pub keys: RegistryKeys,
    pub settings: Node,
}

/// What one call of a provider may use.
#[derive(Clone, Debug)]
pub struct Limits {
    pub cpu: std::time::Duration,
    pub wall: std::time::Duration,
    /// Bytes, summed over all memories.
    pub memory: usize,
    pub table_elements: usize,
    pub handles: usize,
    /// Bytes that a guest may hand to one host call.
    pub host_call: usize,
    /// Bytes of what `describe` returns; what `issue` returns has tighter bounds of its own.
    pub result: usize,
    pub log_lines: usize,
    pub log_line: usize,
    pub aws_calls: usize,
    /// Bytes of the component's file.
    pub file: u64,
}

impl Config {
    /// Loads, merges and checks. Nothing outside the settings files is touched.
    pub fn load(directory: &Path, environment: &Environment) -> Result<Self, Vec<Problem>> {
        let mut node = layers::load(directory, environment)?;
        let mut problems = interpolate::interpolate(&mut node, environment);
        let schema = Schema::new(schemars::schema_for!(File).to_value())
            .map_err(|error| vec![bug(&error)])?;
        let file: File = match schema.check(&node, "") {
            Ok(value) => serde_json::from_value(value).map_err(|error| vec![bug(&error)])?,
            Err(more) => {
                problems.extend(more);
                File::default()
            }
        };
        let registries = registries(&node, &mut problems);
        let rules = parse_rules(&node, file.rules, &file.auth.issuers, &registries, &mut problems);
        let identity = identity(&node, file.auth, &mut problems);
        if registries.is_empty() && problems.is_empty() {
            let message =
                "no registry is configured; add a table such as [registries.prod] with a `type`";
            problems.push(Problem::new(&node.origin.source, "registries", message));
        }
        let (Some(rules), Some(identity), true) = (rules, identity, problems.is_empty()) else {
            return Err(problems);
        };
        let warnings = warnings(&node, &identity, &rules);
        Ok(Self {
            listen: file.server.listen,
            admin_listen: file.server.admin_listen,
            tls: file.server.tls,
            providers: ProvidersConfig {
                directory: file.providers.directory,
                origin: node.nearest("/providers/directory").origin.clone(),
                limits: file.providers.limits,
                named: file
                    .providers
                    .named
                    .into_iter()
                    .map(|(name, it)| (name, it.limits))
                    .collect(),
            },
            registries,
            identity,
            rules,
            audit_directory: file
                .audit
                .directory
                .unwrap_or_else(|| file.server.state_directory.join("audit")),
            state_directory: file.server.state_directory,
            log: LogConfig { level: file.log.level, format: file.log.format },
            warnings,
        })
    }
}

impl ProvidersConfig {
    /// The limits of the provider of this name.
    pub fn limits(&self, name: &str) -> Limits {
        limits(self.named.get(name).unwrap_or(&self.limits), &self.limits)
    }

    /// What every provider fits into: the pool is sized by it.
    pub fn widest(&self) -> Limits {
        let mut widest = self.limits("");
        for name in self.named.keys() {
            let limits = self.limits(name);
            widest.memory = widest.memory.max(limits.memory);
            widest.table_elements = widest.table_elements.max(limits.table_elements);
            widest.file = widest.file.max(limits.file);
            widest.cpu = widest.cpu.max(limits.cpu);
            widest.result = widest.result.max(limits.result);
        }
        widest
    }
}

fn limits(own: &LimitsFile, all: &LimitsFile) -> Limits {
    let pick = |of: fn(&LimitsFile) -> Option<u64>, default| {
        of(own).or_else(|| of(all)).unwrap_or(default)
    };
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Limits {
        cpu: std::time::Duration::from_millis(pick(|it| it.cpu_ms, 100)),
        wall: std::time::Duration::from_millis(pick(|it| it.wall_ms, 8_000)),
        memory: size(pick(|it| it.memory_mib, 64).saturating_mul(1 << 20)),
        table_elements: size(pick(|it| it.table_elements, 20_000)),
        handles: size(pick(|it| it.handles, 1_000)),
        host_call: size(pick(|it| it.host_call_kib, 2_048).saturating_mul(1 << 10)),
        result: size(pick(|it| it.result_kib, 64).saturating_mul(1 << 10)),
        log_lines: size(pick(|it| it.log_lines, 32)),
        log_line: size(pick(|it| it.log_line_bytes, 512)),
        aws_calls: size(pick(|it| it.aws_calls, 4)),
        file: pick(|it| it.file_mib, 32).saturating_mul(1 << 20),
    }
}

fn bug(error: &impl std::fmt::Display) -> Problem {
    Problem::new(
        "this program",
        "",
        format!("cannot read its own settings schema, please report it: {error}"),
    )
}

fn registries(root: &Node, problems: &mut Vec<Problem>) -> BTreeMap<RegistryName, RegistryConfig> {
    let schema = Schema::new(schemars::schema_for!(RegistryKeys).to_value());
    let mut registries = BTreeMap::new();
    for (name, node) in root.get("registries").and_then(Node::table).into_iter().flatten() {
        let key = format!("registries.{name}");
        let name: RegistryName = match name.parse() {
            Ok(name) => name,
            Err(error) => {
                problems.push(Problem::new(
                    &node.origin.source,
                    key,
                    format!("not a name for a registry: {error}"),
                ));
                continue;
            }
        };
        match schema
            .as_ref()
            .map_err(|error| vec![bug(error)])
            .and_then(|schema| registry(node, &key, schema))
        {
            Ok(registry) => {
                registries.insert(name, registry);
            }
            Err(more) => problems.extend(more),
        }
    }
    registries
}

/// Takes the host's keys out of a registry's table.
fn registry(node: &Node, key: &str, schema: &Schema) -> Result<RegistryConfig, Vec<Problem>> {
    let mut settings = node.clone();
    let mut own = Node::empty_table(node.origin.clone());
    let (Some(theirs), Some(ours)) = (settings.table_mut(), own.table_mut()) else {
        return Err(vec![]); // The schema of `File` has said that it is not a table.
    };
    let r#type = theirs.remove("type");
    for name in RegistryKeys::NAMES {
        ours.extend(theirs.remove_entry(name));
    }
    let mut problems = Vec::new();
    let keys = match schema.check(&own, key) {
        Ok(value) => serde_json::from_value(value).map_err(|error| vec![bug(&error)])?,
        Err(more) => {
            problems.extend(more);
            RegistryKeys::default()
        }
    };
    let Some((provider, type_origin)) =
        r#type.as_ref().and_then(|it| Some((it.text()?.to_owned(), it.origin.clone())))
    else {
        let message = "missing; name the provider of this registry, such as \"ecr\" or \"oci\"";
        problems.push(Problem::new(&node.origin.source, format!("{key}.type"), message));
        return Err(problems);
    };
    if problems.is_empty() {
        Ok(RegistryConfig { provider, type_origin, keys, settings })
    } else {
        Err(problems)
    }
}

fn parse_rules(
    root: &Node,
    files: Vec<RuleFile>,
    issuers: &[IssuerFile],
    registries: &BTreeMap<RegistryName, RegistryConfig>,
    problems: &mut Vec<Problem>,
) -> Option<Rules> {
    // Registries with problems of their own have been reported: their names still count here.
    let named = root.get("registries").and_then(Node::table).into_iter().flat_map(|it| it.keys());
    let known = registries.keys().cloned().chain(named.filter_map(|name| name.parse().ok()));
    let known = Known::new(issuers.iter().map(|it| it.name.clone()), known);
    match Rules::parse(files, &known) {
        Ok(rules) => Some(rules),
        Err(more) => {
            problems.extend(more.into_iter().map(|it| {
                let pointer = format!("/rules{}", it.path);
                Problem::new(
                    &root.nearest(&pointer).origin.source,
                    dotted("", &pointer),
                    it.message,
                )
            }));
            None
        }
    }
}

fn identity(root: &Node, auth: AuthFile, problems: &mut Vec<Problem>) -> Option<IdentitySettings> {
    let source = |pointer: &str| root.nearest(pointer).origin.source.to_string();
    let before = problems.len();
    if auth.audience.as_deref().unwrap_or_default().is_empty() && !auth.issuers.is_empty() {
        let message = "missing; every token must be meant for this deployment, so name its audience, such as \"rise-registry\"";
        problems.push(Problem::new(&source("/auth"), "auth.audience", message));
    }
    let mut issuers = Vec::new();
    let mut names = BTreeSet::new();
    for (index, issuer) in auth.issuers.into_iter().enumerate() {
        let key = format!("auth.issuers.{index}");
        let source = source(&format!("/auth/issuers/{index}"));
        if !names.insert(issuer.name.clone()) {
            problems.push(Problem::new(
                &source,
                format!("{key}.name"),
                format!("two issuers are named `{}`", issuer.name),
            ));
        }
        match issuer_settings(issuer) {
            Ok(settings) => issuers.push(settings),
            Err((field, message)) => {
                problems.push(Problem::new(&source, format!("{key}.{field}"), message));
            }
        }
    }
    (problems.len() == before)
        .then(|| IdentitySettings { audience: auth.audience.unwrap_or_default(), issuers })
}

fn issuer_settings(file: IssuerFile) -> Result<IssuerSettings, (&'static str, String)> {
    let source = match (file.issuer, file.jwks_file, file.key_file) {
        (None, None, Some(key_file)) if file.name == "local" => Source::Local { key_file },
        (None, None, None) if file.name == "local" => {
            return Err((
                "key_file",
                "missing; name the file of its private key, which is made on first use".to_owned(),
            ));
        }
        (Some(issuer), None, None) => Source::Discovery { issuer, jwks_hosts: file.jwks_hosts },
        (Some(issuer), Some(path), None) => Source::JwksFile { issuer, path },
        (_, _, Some(_)) => return Err((
            "key_file",
            "is for the built-in issuer named `local`, which has no `issuer` and no `jwks_file`"
                .to_owned(),
        )),
        (None, _, None) => {
            return Err(("issuer", "missing; write the `iss` of its tokens".to_owned()));
        }
    };
    let algorithms = file
        .algorithms
        .iter()
        .map(|name| name.parse::<Algorithm>().map_err(|error| ("algorithms", error.to_string())));
    let algorithms = algorithms.collect::<Result<Vec<_>, _>>()?;
    Ok(IssuerSettings { name: file.name, algorithms, source })
}

fn warnings(root: &Node, identity: &IdentitySettings, rules: &Rules) -> Vec<Problem> {
    let mut warnings: Vec<Problem> = rules
        .warnings()
        .iter()
        .map(|it| {
            let pointer = format!("/rules{}", it.path);
            Problem::new(
                &root.nearest(&pointer).origin.source,
                dotted("", &pointer),
                it.message.clone(),
            )
        })
        .collect();
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
