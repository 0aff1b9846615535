//! Checks the parts of the settings and puts them together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::cache::CacheFile;
use super::file::{AuditFile, AuthFile, IssuerFile, LogFile, ProvidersFile, ServerFile};
use super::interpolate::SecretFile;
use super::layers::{self, Environment};
use super::node::{Node, Problem, dotted};
use super::sections::Sections;
use super::traffic::{Edge, TrafficFile};
use super::{
    Config, RegistryConfig, Written, contradictions, doubts, foreign, installed, interpolate,
    issuers, listeners, modes, places, providers, registries, shared, ship, signing, traces,
    unread,
};
use crate::domain::{RegistryName, TrustedProxies};
use crate::identity::IdentitySettings;
use crate::rules::{
    GuardrailFile, Known, OperatorFile, Operators, Rule, RuleFile, RuleProblem, Rules,
};
use crate::telemetry::LogConfig;

const NO_REGISTRY: &str =
    "no registry is configured; add a table such as [registries.prod] with a `type`";

/// Settings together with their problems. The valid parts can be checked further, to report all
/// problems at once.
pub struct Draft {
    /// Valid only if there are no problems.
    pub config: Config,
    pub problems: Vec<Problem>,
    /// Files and variables that look like settings and are not read. They are among the warnings.
    pub unread: Vec<Problem>,
    /// The top-level tables with problems; `config` has their defaults.
    broken: BTreeSet<String>,
}

impl Draft {
    /// Like [`Config::load`]. An error means that nothing can be checked further.
    pub fn load(directory: &Path, environment: &Environment) -> Result<Self, Vec<Problem>> {
        let mut unread = unread::files(directory, environment);
        let (node, replaced) = layers::load(directory, environment)?;
        let mut draft = Self::of_node(node, directory, environment)?;
        draft.config.warnings.extend(replaced);
        if let Some(files) = unread::joined(&unread) {
            // The missing registries may be there.
            let is_missing = |problem: &&mut Problem| problem.message == NO_REGISTRY;
            for problem in draft.problems.iter_mut().filter(is_missing) {
                problem.message = format!("no registry is configured: {files}");
            }
        }
        unread.extend(unread::variables(environment));
        unread.extend(foreign::variables(environment, &draft.config.identity));
        draft.config.warnings.extend(unread.iter().cloned());
        let of_modes = modes::warnings(directory, &draft.config);
        draft.config.warnings.extend(of_modes);
        let of_signing = signing::warning(&draft.config);
        draft.config.warnings.extend(of_signing);
        draft.config.warnings.extend(shared::warning(&draft.config));
        let of_places = places::warnings(directory, &draft.config);
        draft.config.warnings.extend(of_places);
        let of_installed = installed::warnings(&draft.config.providers, &draft.config.written);
        draft.config.warnings.extend(of_installed);
        draft.unread = unread;
        Ok(draft)
    }

    /// Checks a single tree of settings, without layers and `RISE_` variables. It replaces `${…}`.
    pub fn of_node(
        mut node: Node,
        directory: &Path,
        environment: &Environment,
    ) -> Result<Self, Vec<Problem>> {
        let secrets = interpolate::files(&node);
        let mut files: BTreeSet<_> = secrets.iter().map(|file| file.path.clone()).collect();
        let mut sections = Sections::new(&mut node, environment)?;
        let server: ServerFile = sections.take("server");
        let providers: ProvidersFile = sections.take("providers");
        let auth: AuthFile = sections.take("auth");
        let (rules, operators) = (sections.take("rules"), sections.take("operators"));
        let mut audit: AuditFile = sections.take("audit");
        let (cache, log): (CacheFile, LogFile) = (sections.take("cache"), sections.take("log"));
        let (signing, shared) = (sections.take("signing"), sections.take("shared"));
        let traces = sections.take("traces");
        let mut traffic: TrafficFile = sections.take("limits");
        let policy = std::mem::take(&mut traffic.policy);
        let (mut problems, longest) = (sections.problems, policy.max_token_lifetime);
        let registries = registries::registries(&node, &sections.unfilled, &mut problems);
        let known = issuers::known(&node, &auth.issuers, &registries);
        let rules = parse_rules(&node, (rules, operators), policy, &known, &mut problems);
        let doubts = doubtful(&node, &auth.issuers, &secrets);
        let identity = issuers::identity(&node, auth, longest, &mut problems);
        files.extend(identity.files());
        files.extend(registries.values().filter_map(RegistryConfig::ca_file));
        let written = Written(without_secrets(node));
        let edge = edge(&server, &written, &mut problems);
        let of_listeners = listeners::check(&server, &written, &mut problems);
        let limits = traffic.settings(&registries, &written, &mut problems);
        check_rest(&log, &registries, &written, &mut problems);
        let warnings = warnings(&written.0, &identity, &rules, longest).into_iter();
        let warnings = warnings.chain(doubts).chain(of_listeners).collect();
        let mut warnings = name_rules(&written.0, warnings);
        warnings.extend(without_default(&registries, &rules, &written));
        let providers = providers::config(directory, providers, &written, &mut problems);
        warnings.extend(contradictions::warnings(&server, &audit, &providers, &written));
        let state = &server.state_directory;
        let signing = signing::config(signing, state, &identity, &written, &mut problems);
        files.extend(signing.iter().map(|it| it.key_file.clone()));
        let config = Config {
            listen: server.listen,
            admin_listen: server.admin_listen,
            tls: server.tls,
            edge,
            drain_delay: Duration::from_millis(server.drain_delay_ms),
            limits,
            providers,
            registries,
            identity,
            rules,
            ship: Arc::new(ship::config(&mut audit, &written, (&mut problems, &mut warnings))),
            audit: audit.settings(state),
            cache: cache.config(),
            shared: shared::config(shared, &written, &mut problems),
            signing,
            state_directory: server.state_directory,
            log: LogConfig { level: log.level, format: log.format },
            traces: traces::config(traces, &written, &mut problems),
            warnings,
            files,
            written,
        };
        let problems = name_rules(&config.written.0, problems);
        Ok(Self { config, problems, unread: Vec::new(), broken: sections.broken })
    }

    /// Makes a draft with a problem that was found elsewhere.
    pub fn of(config: Config, problem: Problem) -> Self {
        Self { config, problems: vec![problem], unread: Vec::new(), broken: BTreeSet::new() }
    }

    /// Returns whether this top-level table has a default in place of invalid settings.
    pub fn is_broken(&self, section: &str) -> bool {
        self.broken.contains(section)
    }
}

/// Warnings about what is written, whatever it is for.
fn doubtful(root: &Node, issuers: &[IssuerFile], secrets: &[SecretFile]) -> Vec<Problem> {
    let mut warnings = doubts::warnings(root);
    warnings.extend(issuers::doubts(root, issuers));
    warnings.extend(modes::of_secrets(secrets));
    warnings
}

fn edge(server: &ServerFile, written: &Written, problems: &mut Vec<Problem>) -> Edge {
    let proxies = TrustedProxies::parse(server.trusted_proxies.iter().map(String::as_str));
    let trusted_proxies = proxies.unwrap_or_else(|error| {
        problems.push(written.problem("/server/trusted_proxies", error.to_string()));
        TrustedProxies::default()
    });
    Edge {
        timeouts: server.timeouts.settings(),
        connections: server.connections,
        connections_per_address: server.connections_per_address,
        trusted_proxies,
    }
}

fn check_rest(
    log: &LogFile,
    registries: &BTreeMap<RegistryName, RegistryConfig>,
    written: &Written,
    problems: &mut Vec<Problem>,
) {
    problems.extend(log_level(&log.level, written));
    let has_none = registries.is_empty() && problems.is_empty();
    problems.extend(has_none.then(|| written.problem("/registries", NO_REGISTRY)));
}

/// A caller whose rules reach one registry need not name it, but others must.
fn without_default(
    registries: &BTreeMap<RegistryName, RegistryConfig>,
    rules: &Rules,
    written: &Written,
) -> Option<Problem> {
    let is_default = |name: &RegistryName| name.as_str() == "default";
    let reaches_several = |rule: &&Rule| rule.registries().len() > 1;
    let rule = rules.iter().find(reaches_several)?;
    if registries.keys().any(is_default) {
        return None;
    }
    let names: Vec<&str> = registries.keys().map(RegistryName::as_str).collect();
    let message = format!(
        "none of {} is named `default`, so callers of rule `{}`, which covers several of them, get \
         a 400 unless they name one; name the usual one `default`",
        names.join(", "),
        rule.name()
    );
    Some(written.problem("/registries", message))
}

/// The secrets outside the registries, each in its table.
const SECRETS: &[(&[&str], &str)] = &[
    (&["shared"], "password"),
    (&["traces"], "token"),
    (&["audit", "ship", "postgres"], "password"),
    (&["audit", "ship", "s3"], "access_key_id"),
    (&["audit", "ship", "s3"], "secret_access_key"),
    (&["audit", "ship", "https"], "token"),
    (&["audit", "ship", "otlp"], "token"),
];

fn without_secrets(mut root: Node) -> Node {
    if let Some(map) = root.table_mut() {
        map.remove("registries");
    }
    for (tables, secret) in SECRETS {
        let mut table = root.table_mut();
        for name in *tables {
            table = table.and_then(|table| table.get_mut(*name)).and_then(Node::table_mut);
        }
        if let Some(table) = table {
            table.remove(*secret);
        }
    }
    root
}

/// Returns the problem with a level. The filter would silently treat an unknown word as a module
/// name.
fn log_level(level: &str, written: &Written) -> Option<Problem> {
    let is_level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"]
            .contains(&word.to_ascii_lowercase().as_str())
    };
    // The name of a module has no `-`, so such a directive would silence everything else.
    let is_directive = |word: &str| match word.split_once('=') {
        Some((target, _)) => !target.contains('-'),
        None => is_level(word.trim()),
    };
    let is_right = level.split(',').all(is_directive) && EnvFilter::builder().parse(level).is_ok();
    (!is_right).then(|| {
        let expected = "expected a level, one of error, warn, info, debug, trace, off, or \
                        directives such as `info,rise_broker=debug`";
        written.problem("/log/level", expected)
    })
}

fn parse_rules(
    root: &Node,
    (rules, operators): (Vec<RuleFile>, Vec<OperatorFile>),
    guardrail: GuardrailFile,
    known: &Known,
    problems: &mut Vec<Problem>,
) -> Rules {
    let mut report = |more: Vec<RuleProblem>| {
        let more = more.into_iter();
        problems.extend(more.map(|problem| placed(root, &problem.path, problem.message)));
    };
    let rules = Rules::parse_within(rules, guardrail, known);
    let mut rules = rules.map_err(&mut report).unwrap_or_default();
    rules.set_operators(Operators::parse(operators, known).map_err(report).unwrap_or_default());
    rules
}

/// Adds the origin to a problem.
fn placed(root: &Node, pointer: &str, message: String) -> Problem {
    Problem::at(&root.nearest(pointer).origin, dotted("", pointer), message)
}

/// Names each rule that has a problem: `` rule `ci` allow.1 `` in place of `rules.3.allow.1`.
fn name_rules(root: &Node, problems: Vec<Problem>) -> Vec<Problem> {
    problems
        .into_iter()
        .map(|problem| {
            let named = problem.key.strip_prefix("rules.").and_then(|key| {
                let (number, rest) = key.split_once('.').unwrap_or((key, ""));
                let rule = root.get("rules")?.items().get(number.parse::<usize>().ok()?)?;
                let name = rule.get("name").and_then(Node::text).unwrap_or_default();
                let is_unnamed = name.trim().is_empty();
                let rule = if is_unnamed { number.to_owned() } else { format!("`{name}`") };
                Some((format!("rule {rule} {rest}").trim_end().to_owned(), name))
            });
            let Some((key, name)) = named else { return problem };
            let message = problem.message.strip_prefix(&format!("rule `{name}`: "));
            let message = message.unwrap_or(&problem.message).to_owned();
            Problem { key, message, ..problem }
        })
        .collect()
}

fn warnings(
    root: &Node,
    identity: &IdentitySettings,
    rules: &Rules,
    longest: Option<u32>,
) -> Vec<Problem> {
    let rule = |warning: &RuleProblem| placed(root, &warning.path, warning.message.clone());
    let of_rules = rules.warnings().iter().chain(rules.operators().warnings());
    let mut warnings: Vec<Problem> = of_rules.map(rule).collect();
    for (index, rule) in rules.iter().enumerate() {
        let mut issuers = identity.issuers.iter();
        let issuer = issuers.find(|issuer| issuer.name.as_str() == rule.issuer());
        if let Some(issuer) = issuer.filter(|issuer| rule.wants_other_audience(&issuer.audience)) {
            let message = format!(
                "tokens of issuer `{}` must have the audience `{}`, so with another one alone the \
                 rule matches nobody",
                issuer.name, issuer.audience
            );
            warnings.push(placed(root, &format!("/rules/{index}/claims/aud"), message));
        }
    }
    for (index, issuer) in identity.issuers.iter().enumerate() {
        let of = |warning| {
            let message = format!("issuer `{}`: {warning}", issuer.name);
            placed(root, &format!("/auth/issuers/{index}"), message)
        };
        warnings.extend(issuer.warnings(longest).into_iter().map(of));
    }
    let is_on_trial = rules.iter().next().is_some() && rules.iter().all(Rule::is_on_trial);
    if is_on_trial {
        let message = "every rule, or its issuer, has `mode = \"audit\"`: nobody will be granted \
                       anything";
        warnings.push(placed(root, "/rules", message.to_owned()));
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
