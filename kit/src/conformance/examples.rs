//! `conformance.toml`: settings as an operator would write them, and the answers of the registry.
//!
//! ```toml
//! [registries.example]
//! type = "imaginary"
//! base_url = "https://registry.example.com"
//! admin_token = "any text: a canary takes its place"
//! trust_provider = true
//!
//! [[answers]]
//! method = "POST"
//! path = "/api/tokens"
//! status = 201
//! body = '{"username": "ci", "token": "{token}", "expires_at": {expires_at}}'
//! ```
//!
//! [`answers`](super::answers) describes `[[answers]]`.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use ulid::Ulid;

use super::Bench;
use super::answers::ExampleAnswer;
use super::doubles::{Doubles, Upstream};
use super::example_key;
use super::object::RegistryObject;
use super::report::Report;
use crate::probe::{Probe, Seen};
use crate::settings::Settings;
use rise_broker::capability::Capabilities;
use rise_broker::capability::assertions::SigningKey;
use rise_broker::config::node::Problem;
use rise_broker::config::{Config, ProvidersConfig, RegistryKeys, parse_file};
use rise_broker::domain::{Clock, Project, Secret};
use rise_broker::provider::{Engine, OpeningSetting, Trial, opening_settings};
use rise_broker::registries::{Clients, Means, Registries, Registry};
use rise_broker::rules::Grant;
use rise_broker::signing::Signing;

pub(super) struct Examples {
    config: Config,
    answers: Arc<[ExampleAnswer]>,
}

/// One registry of the examples, with doubles behind its capabilities and canaries as its secrets.
#[derive(Clone)]
pub(super) struct Case {
    pub registry: Arc<Registry>,
    pub engine: Engine,
    pub canaries: Vec<String>,
    /// A canary in place of what the registry issues.
    pub issued: Arc<str>,
    answers: Arc<[ExampleAnswer]>,
    host: String,
    /// Sees the calls outside `issue`.
    quiet: Arc<Probe>,
}

impl Examples {
    pub(super) fn load(path: &Path, bench: &Bench<'_>) -> Result<Self, Vec<Problem>> {
        let source = path.display().to_string();
        let node = parse_file(path).map_err(|mut problem| {
            if !path.exists() {
                "missing; write settings that work and the answers of the registry, see \
                docs/provider-author-guide.md"
                    .clone_into(&mut problem.message);
            }
            vec![problem]
        })?;
        let Settings { config, answers } = Settings::of_node(node, "", bench.environment)?;
        let answers =
            answers.map_or(Ok(Vec::new()), |node| serde_json::from_value(node.to_value()));
        let answers: Vec<ExampleAnswer> =
            answers.map_err(|error| vec![Problem::new(&source, "answers", error.to_string())])?;
        let problems: Vec<Problem> = answers
            .iter()
            .enumerate()
            .flat_map(|(index, answer)| answer.problems().map(move |text| (index, text)))
            .map(|(index, text)| Problem::new(&source, format!("answers.{index}"), text))
            .collect();
        if problems.is_empty() {
            Ok(Self { config, answers: answers.into() })
        } else {
            Err(problems)
        }
    }

    pub(super) fn providers(&self) -> &ProvidersConfig {
        &self.config.providers
    }

    /// Builds the registries of the examples. Returns `None` if one cannot be built; the report has
    /// the reason.
    pub(super) async fn cases(mut self, trial: &Trial, report: &mut Report) -> Option<Vec<Case>> {
        let check = "are accepted, and determine where projects live";
        let schema = &trial.provider.schema;
        let properties = schema.document().get("properties").and_then(Value::as_object);
        let reserved = RegistryKeys::NAMES.into_iter().chain(["type"]);
        let taken: Vec<&str> = reserved
            .filter(|name| properties.is_some_and(|properties| properties.contains_key(*name)))
            .collect();
        if !taken.is_empty() {
            let seen = format!("the host removes {} before the provider's turn", taken.join(", "));
            report.fail("settings", "no setting has the name of a key of the host", seen);
        }
        for OpeningSetting { name, opens, .. } in
            opening_settings(&trial.provider).into_iter().filter(|setting| setting.has_default)
        {
            let seen = format!(
                "the default of `{name}` opens nothing: the operator has to write it to allow \
                 {opens}, so make it required"
            );
            report.hint("settings", "what opens a ceiling has no default", seen);
        }
        if self.config.registries.is_empty() {
            report.fail("settings", check, "the examples have no registry".to_owned());
            return None;
        }
        for (name, registry) in &mut self.config.registries {
            example_key::replace(&mut registry.settings, schema);
            let mut odd = registry.settings.clone();
            let unknown = odd.clone();
            odd.table_mut().map(|table| table.insert("no-such-setting".to_owned(), unknown));
            if schema.check(&odd, name.as_str()).is_ok() {
                let seen = "the schema accepts any setting: set `additionalProperties` to false \
                            (in Rust, #[serde(deny_unknown_fields)])";
                report.fail("settings", "unknown settings are rejected", seen.to_owned());
            }
        }
        let clients = Clients::new(Arc::new(Doubles));
        let signing = Signing::throwaway(Clock::system().now()).map(Arc::new);
        let means = Means { clients: &clients, signing: signing.as_ref() };
        let built = Registries::build(self.config.registries, &trial.catalog, means).await;
        let registries = match built {
            Ok(built) => built.registries,
            Err(problems) => {
                report.record(
                    "settings",
                    check,
                    problems.iter().map(ToString::to_string).collect(),
                );
                return None;
            }
        };
        report.pass("settings", check);
        let case = |registry: &Arc<Registry>| Case::new(registry, &trial.engine, &self.answers);
        Some(registries.iter().map(case).collect())
    }
}

impl Case {
    fn new(registry: &Registry, engine: &Engine, answers: &Arc<[ExampleAnswer]>) -> Self {
        let mut capabilities = Capabilities::clone(&registry.capabilities);
        let canary = || format!("canary-{}", Ulid::generate());
        let mut canaries = Vec::new();
        for secret in capabilities.secrets.values_mut() {
            // Only a key can sign. A key of an example is nobody's, so it serves as its own canary.
            if SigningKey::read(secret).is_err() {
                *secret = Arc::new(Secret::new(canary()));
            }
            let is_key = SigningKey::read(secret).is_ok();
            let text = secret.expose();
            canaries.push(if is_key { example_key::canary(text) } else { text }.to_owned());
        }
        let host = registry.pattern.host().to_string();
        let quiet = Arc::new(Probe::default());
        capabilities.observer = Arc::<Probe>::clone(&quiet);
        let registry = Registry { capabilities: Arc::new(capabilities), ..registry.clone() };
        Self {
            registry: Arc::new(registry),
            engine: engine.clone(),
            canaries,
            issued: canary().into(),
            answers: Arc::clone(answers),
            host,
            quiet,
        }
    }

    /// Returns the upstreams for calls with this grant. The registry has not made anything yet.
    pub(super) fn upstream(&self, grant: &Grant) -> Upstream {
        self.upstream_with(grant, RegistryObject::default())
    }

    /// Returns the upstreams for calls with this grant, with what the registry has made before.
    pub(super) fn upstream_with(&self, grant: &Grant, object: RegistryObject) -> Upstream {
        self.upstream_of(grant.id().to_string(), object)
    }

    /// The same for calls about the grant with this id.
    pub(super) fn upstream_of(&self, id: String, object: RegistryObject) -> Upstream {
        let upstream =
            Upstream::new(&self.host, Arc::clone(&self.answers), Arc::clone(&self.issued));
        upstream.for_grant(id, object)
    }

    /// The answers of the examples, which are the same for each of their registries.
    pub(super) fn answers(&self) -> &[ExampleAnswer] {
        &self.answers
    }

    /// Whether the provider sends requests of its own.
    pub(super) fn asks_over_http(&self) -> bool {
        self.registry.provider.imports.contains(&"http")
    }

    /// Whether the examples say which request makes a credential, so that its end can be checked.
    pub(super) fn says_what_makes(&self) -> bool {
        self.answers.iter().any(|answer| answer.makes)
    }

    /// Returns the registry with `upstream` behind it, observed by `probe`.
    pub(super) fn behind(&self, upstream: Upstream, probe: Probe) -> (Registry, Arc<Probe>) {
        self.behind_shared(Arc::new(upstream), probe)
    }

    pub(super) fn behind_shared(
        &self,
        upstream: Arc<Upstream>,
        probe: Probe,
    ) -> (Registry, Arc<Probe>) {
        let probe = Arc::new(probe);
        let mut capabilities = Capabilities::clone(&self.registry.capabilities);
        if let Some(aws) = &mut capabilities.aws {
            aws.client = Arc::<Upstream>::clone(&upstream);
        }
        if let Some(repositories) = &mut capabilities.repositories {
            repositories.client = Arc::<Upstream>::clone(&upstream);
        }
        if let Some(http) = &mut capabilities.http {
            http.client = upstream;
        }
        // What one try keeps must not spare the next one a request.
        capabilities.kept = Arc::default();
        capabilities.observer = Arc::<Probe>::clone(&probe);
        let capabilities = Arc::new(capabilities);
        (Registry { capabilities, ..Registry::clone(&self.registry) }, probe)
    }

    /// The capabilities that were called outside `issue`, where none may be.
    pub(super) fn called_outside(&self) -> Vec<String> {
        self.quiet.seen().asked.iter().map(|asked| asked.import.to_owned()).collect()
    }

    pub(super) fn name(&self) -> &str {
        self.registry.name.as_str()
    }

    /// Projects that the registry has: the shortest name, and one of as many components as it may
    /// have.
    pub(super) fn projects(&self) -> Vec<Project> {
        let shape = self.registry.shape;
        let names = ["my-app", "team/my-app", "team/sub/my-app", "team/sub/of/my-app"];
        let projects = names.iter().filter_map(|name| name.parse().ok());
        let mut projects: Vec<Project> = projects.filter(|project| shape.admits(project)).collect();
        while projects.len() > 2 {
            projects.remove(1);
        }
        projects
    }

    /// One of [`Self::projects`].
    pub(super) fn project(&self) -> Result<Project, String> {
        let none = || "no project of up to four components is one of this registry".to_owned();
        self.projects().into_iter().next().ok_or_else(none)
    }

    /// Whether a text has one of the registry's secrets, or what the registry issued.
    pub(super) fn leaks(&self, text: &str) -> bool {
        self.canaries.iter().any(|canary| text.contains(canary)) || text.contains(&*self.issued)
    }

    /// Whether a line has a secret, or had one that the host found in another form.
    pub(super) fn logged_secret(&self, seen: &Seen) -> bool {
        seen.lines.iter().any(|line| line.withheld || self.leaks(&line.text))
    }

    /// Everything that a call did wrong in the log and beyond its ceiling.
    pub(super) fn violations(&self, seen: &Seen) -> Vec<String> {
        let limits = &self.registry.provider.guest.limits;
        let mut wrong = Vec::new();
        if let Some(refused) = &seen.refused {
            wrong.push(format!("asked for {refused}"));
        }
        if self.logged_secret(seen) {
            wrong.push("wrote a secret to the log".to_owned());
        }
        if seen.lines_in_all > limits.log_lines {
            wrong.push(format!(
                "wrote {} lines to the log, and {} are kept",
                seen.lines_in_all, limits.log_lines
            ));
        }
        wrong
    }
}
