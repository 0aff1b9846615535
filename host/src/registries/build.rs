//! From what was written to a registry that can be relied on. All problems of all registries are reported at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::http;
use super::secrets::{self, Secrets};
use super::{Registries, Registry};
use crate::capability::aws::ceiling::{AwsCeiling, AwsSettings, Switches};
use crate::capability::aws::{Aws, AwsAccess};
use crate::capability::{Capabilities, printable};
use crate::config::RegistryConfig;
use crate::config::node::{Node, Origin, Problem, dotted};
use crate::domain::location::LocationPattern;
use crate::domain::{Host, Location, Project, RegistryName, Scope, Secret};
use crate::provider::{Catalog, CheckCall, LocateCall, Provider, ResolveCall};
use crate::wit::exports::rise::registry::registry as contract;

/// Opens AWS for one registry; tests hand in one that opens a double.
#[async_trait]
pub trait ConnectAws: Send + Sync {
    async fn connect(
        &self,
        settings: AwsSettings,
        keys: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws>;
}

/// Two projects nobody has, to see how a place depends on the project.
const PROBES: [&str; 2] = ["rise-broker-probe-1", "rise-broker-probe-2"];
const DEFAULT_MAX_LIFETIME: u32 = 43_200;
/// Nobody can ask ECR for less.
const ECR_LIFETIME: u32 = 43_200;

impl Registries {
    pub async fn build(
        configs: BTreeMap<RegistryName, RegistryConfig>,
        catalog: &Catalog,
        aws: &dyn ConnectAws,
    ) -> Result<Self, Vec<Problem>> {
        let mut built: BTreeMap<RegistryName, Arc<Registry>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, config) in configs {
            let origin = config.type_origin.clone();
            match build(&name, config, catalog, aws).await {
                Ok(registry) => {
                    problems.extend(
                        built.values().filter_map(|other| collision(&registry, other, &origin)),
                    );
                    built.insert(name, Arc::new(registry));
                }
                Err(more) => problems.extend(more),
            }
        }
        if problems.is_empty() { Ok(Self(built)) } else { Err(problems) }
    }
}

async fn build(
    name: &RegistryName,
    config: RegistryConfig,
    catalog: &Catalog,
    aws: &dyn ConnectAws,
) -> Result<Registry, Vec<Problem>> {
    let key = format!("registries.{name}");
    let place = Place { key: &key, node: &config.written, fallback: &config.type_origin };
    let provider = catalog.find(&config.provider).ok_or_else(|| {
        let message = format!("no provider is named `{}`, expected one of {}; put its `.wasm` into the providers' folder", printable(&config.provider, 64), catalog.names());
        vec![Problem::at(&config.type_origin, format!("{key}.type"), message)]
    })?;
    let mut settings = provider.schema.check(&config.settings, &key)?;
    let own_secrets = secrets::extract(&mut settings, &config.settings, &provider.schema, &key)?;
    let accepted = config.keys.accept_scope.map_or(Scope::Repository, Scope::from);
    let aws_settings: AwsSettings = serde_json::from_value(settings.clone()).unwrap_or_default();
    let text: Arc<str> = settings.to_string().into();
    // The provider judges its settings before the host makes anything of them: it has the better words.
    let secrets = own_secrets.clone();
    let bare = Capabilities { registry: name.to_string(), secrets, ..Capabilities::none() };
    let bare = Arc::new(bare);
    let scope = check(provider, &bare, &text, &place).await?;
    if !config.keys_are_right {
        return Err(vec![]); // Reported where they were read; the rest would follow from them.
    }
    let access = if provider.imports.contains(&"aws") {
        Some(open_aws(&aws_settings, &config, &own_secrets, &place, aws).await?)
    } else {
        no_aws(&config, &place)?;
        None
    };
    // Who wrote it into the lock has looked at it.
    let trust_provider = config.keys.trust_provider || catalog.is_locked(provider);
    let http = http::open(provider, &settings, &config, (scope, trust_provider), &place)?;
    let has_aws = access.is_some();
    let bare = Capabilities::clone(&bare);
    let capabilities = Arc::new(Capabilities { aws: access, http, ..bare });
    let narrow = narrow_enough(scope, accepted, has_aws && aws_settings.push_role_arn.is_none());
    let narrow = narrow.map_err(|message| place.problem("", message));
    let pattern = pattern(provider, &capabilities, &text)
        .await
        .map_err(|message| place.problem("", message))
        .and_then(|pattern| {
            let aws = has_aws.then_some(&aws_settings);
            allowed(&config, &settings, aws, &place)?.hold(pattern, &place)
        });
    let pattern = match (narrow, pattern) {
        (Ok(()), Ok(pattern)) => pattern,
        (narrow, pattern) => {
            return Err([narrow.err(), pattern.err()].into_iter().flatten().flatten().collect());
        }
    };
    Ok(Registry {
        name: name.clone(),
        provider: Arc::clone(provider),
        settings: text,
        capabilities,
        scope,
        accepted,
        trust_provider,
        max_lifetime: config.keys.max_lifetime.unwrap_or(DEFAULT_MAX_LIFETIME),
        pattern,
        children: settings.get("child_repositories") == Some(&Value::Bool(true)),
    })
}

/// Where a registry's settings stand, for messages.
pub(super) struct Place<'a> {
    pub(super) key: &'a str,
    node: &'a Node,
    fallback: &'a Origin,
}

impl Place<'_> {
    pub(super) fn problem(&self, pointer: &str, message: String) -> Vec<Problem> {
        let origin =
            if pointer.is_empty() { self.fallback } else { &self.node.nearest(pointer).origin };
        vec![Problem::at(origin, dotted(self.key, pointer), message)]
    }
}

async fn open_aws(
    settings: &AwsSettings,
    config: &RegistryConfig,
    secrets: &Secrets,
    place: &Place<'_>,
    aws: &dyn ConnectAws,
) -> Result<AwsAccess, Vec<Problem>> {
    if settings.region.is_empty() {
        return Err(place
            .problem("/region", "missing; its provider uses AWS, so name the region".to_owned()));
    }
    // The provider has looked at its form; what the SDK would make of it is not a provider's to know.
    if let Some(Err(error)) = settings.endpoint_url.as_deref().map(url::Url::parse) {
        return Err(place.problem("/endpoint_url", format!("not a URL: {error}")));
    }
    let keys = &config.keys;
    let switches = Switches {
        unscoped: keys.accept_scope.map(Scope::from) == Some(Scope::Registry),
        source_identity: keys.source_identity,
        session_tags: keys.session_tags,
    };
    let ceiling =
        AwsCeiling::new(settings, keys.ceiling.aws.as_ref(), switches).map_err(|error| {
            let pointer = if keys.ceiling.aws.is_some() { "/ceiling/aws" } else { "/repo_prefix" };
            place.problem(pointer, error.to_string())
        })?;
    let pair = match (secrets.get("access_key_id"), secrets.get("secret_access_key")) {
        (Some(id), Some(secret)) => Some((Arc::clone(id), Arc::clone(secret))),
        (None, None) => None,
        (Some(_), None) => {
            return Err(place.problem(
                "/secret_access_key",
                "missing; it belongs to `access_key_id`".to_owned(),
            ));
        }
        (None, Some(_)) => {
            return Err(place.problem(
                "/access_key_id",
                "missing; it belongs to `secret_access_key`".to_owned(),
            ));
        }
    };
    if keys.max_lifetime.is_some_and(|seconds| seconds < ECR_LIFETIME) {
        tracing::warn!(
            registry = place.key,
            "`max_lifetime` is under the twelve hours of every ECR token, so that each will be refused; leave it out"
        );
    }
    Ok(AwsAccess { ceiling, client: aws.connect(settings.clone(), pair).await })
}

/// What is stated about AWS where none is used was meant for another registry, or for another provider.
fn no_aws(config: &RegistryConfig, place: &Place<'_>) -> Result<(), Vec<Problem>> {
    let keys = &config.keys;
    let stated = [
        ("/ceiling/aws", keys.ceiling.aws.is_some()),
        ("/source_identity", keys.source_identity),
        ("/session_tags", keys.session_tags),
    ];
    match stated.into_iter().find(|(_, stated)| *stated) {
        Some((pointer, _)) => {
            Err(place.problem(pointer, "its provider does not use AWS; remove this".to_owned()))
        }
        None => Ok(()),
    }
}

/// The provider's own judgement of its settings.
async fn check(
    provider: &Provider,
    capabilities: &Arc<Capabilities>,
    settings: &Arc<str>,
    place: &Place<'_>,
) -> Result<Scope, Vec<Problem>> {
    let answer = provider
        .call(CheckCall { settings: Arc::clone(settings) }, capabilities)
        .await
        .map_err(|error| place.problem("", format!("its provider cannot check it: {error}")))?;
    match answer.value {
        Ok(contract::Scope::None) => Ok(Scope::None),
        Ok(contract::Scope::Repository) => Ok(Scope::Repository),
        Ok(contract::Scope::Namespace) => Ok(Scope::Namespace),
        Ok(contract::Scope::Registry) => Ok(Scope::Registry),
        Err(problems) if problems.is_empty() => {
            Err(place.problem("", "its provider refuses it and does not say why".to_owned()))
        }
        Err(problems) => Err(problems
            .iter()
            .take(64)
            .flat_map(|problem| {
                let hides = capabilities.reveals_secret(&problem.message);
                let message = if hides {
                    "wrong (the message holds a secret and is withheld)".to_owned()
                } else {
                    printable(&problem.message, 512)
                };
                place.problem(&printable(&problem.path, 256), message)
            })
            .collect()),
    }
}

fn narrow_enough(scope: Scope, accepted: Scope, without_push_role: bool) -> Result<(), String> {
    if scope <= accepted {
        return Ok(());
    }
    let reach = match scope {
        Scope::Namespace => "a whole namespace",
        Scope::Registry | Scope::Repository | Scope::None => "the whole registry",
    };
    let narrower = if without_push_role {
        "set `push_role_arn`, so that each credential is narrowed to one repository, or "
    } else {
        ""
    };
    Err(format!(
        "its credentials open {reach}, not one repository: whoever is granted one project here could reach the others too; {narrower}set `accept_scope = \"{scope}\"` if that is acceptable"
    ))
}

/// Derives where projects live from two answers of `locate`, and sees that `resolve` is its inverse.
async fn pattern(
    provider: &Provider,
    capabilities: &Arc<Capabilities>,
    settings: &Arc<str>,
) -> Result<LocationPattern, String> {
    let mut patterns = Vec::new();
    for probe in PROBES {
        let project: Project = probe.parse().map_err(|error| format!("{error}"))?;
        let locate = LocateCall { settings: Arc::clone(settings), project: project.clone() };
        let located = provider
            .call(locate, capabilities)
            .await
            .map_err(|error| format!("its provider cannot say where projects live: {error}"))?;
        let located = located.value.map_err(|error| {
            format!(
                "its provider cannot say where projects live: {}",
                printable(&error.to_string(), 512)
            )
        })?;
        let location = Location::parse(&located.host, &located.repository).map_err(|error| {
            format!("its provider says that projects live at a place that is none: {error}")
        })?;
        let pattern = LocationPattern::of(&location, &project)
            .map_err(|_| format!("its provider's place for a project, {location}, does not hold the project once as a whole path segment"))?;
        let resolve = ResolveCall { settings: Arc::clone(settings), location: location.clone() };
        let resolved = provider
            .call(resolve, capabilities)
            .await
            .map_err(|error| format!("its provider cannot find a project by its place: {error}"))?;
        if resolved.value.as_deref() != Some(probe) {
            return Err(format!(
                "its provider's `resolve` is not the inverse of its `locate` at {location}"
            ));
        }
        patterns.push(pattern);
    }
    match patterns.as_slice() {
        [first, second] if first == second => Ok(first.clone()),
        _ => Err("its provider puts projects into places that differ by more than the project"
            .to_owned()),
    }
}

/// Where a registry's images may live.
enum Allowed {
    Host(Host),
    Pattern(LocationPattern),
}

impl Allowed {
    /// The pattern, if it lies inside.
    fn hold(
        &self,
        pattern: LocationPattern,
        place: &Place<'_>,
    ) -> Result<LocationPattern, Vec<Problem>> {
        let probe = PROBES[0].parse();
        let (holds, remedy) = match self {
            Self::Host(host) => (pattern.host() == host, "state `location` if that is meant"),
            Self::Pattern(allowed) => (
                probe.is_ok_and(|probe| allowed.fill(&probe).contains(&pattern.fill(&probe))),
                "mend `location`, or the settings that put them there",
            ),
        };
        if holds {
            return Ok(pattern);
        }
        let message = format!("its images would live at {pattern}, outside {self}; {remedy}");
        Err(place.problem("/location", message))
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(host) => write!(f, "the host {host}"),
            Self::Pattern(pattern) => write!(f, "{pattern}"),
        }
    }
}

fn allowed(
    config: &RegistryConfig,
    settings: &Value,
    aws: Option<&AwsSettings>,
    place: &Place<'_>,
) -> Result<Allowed, Vec<Problem>> {
    if let Some(location) = &config.keys.location {
        return location
            .parse()
            .map(Allowed::Pattern)
            .map_err(|error| place.problem("/location", format!("{error}")));
    }
    let url = ["registry_url", "base_url"]
        .into_iter()
        .find_map(|name| Some((name, settings.get(name)?.as_str()?)));
    match (aws, url) {
        (Some(aws), _) if !aws.account_id.is_empty() => {
            aws.registry_host().parse().map(Allowed::Host).map_err(|_| place.problem("/account_id", "makes no host name together with the region".to_owned()))
        }
        (_, Some((name, url))) => Host::from_setting(url).map(Allowed::Host).map_err(|error| place.problem(&format!("/{name}"), error.to_string())),
        (_, None) => Err(place.problem("/location", "missing; its settings do not say where its images live, so state it: `location = \"host/prefix/{project}\"`".to_owned())),
    }
}

fn collision(registry: &Registry, other: &Registry, origin: &Origin) -> Option<Problem> {
    registry.pattern.collides(registry.children, &other.pattern, other.children).then(|| {
        let message = format!(
            "collides with the registry `{}`: {} and {} can be the same repository, so that an image could belong to both; give them different prefixes",
            other.name, registry.pattern, other.pattern
        );
        Problem::at(origin, format!("registries.{}", registry.name), message)
    })
}
