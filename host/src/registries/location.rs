//! Where a registry's images live: derived from its provider at start, and held against its settings.
//!
//! **Invariant:** a request never depends on a provider's answer about locations.

use std::sync::Arc;

use serde_json::Value;

use super::Registry;
use super::build::Stated;
use crate::capability::aws::ceiling::AwsSettings;
use crate::capability::{Capabilities, printable};
use crate::config::RegistryConfig;
use crate::config::node::{Origin, Problem};
use crate::domain::location::LocationPattern;
use crate::domain::{Host, Location, Project};
use crate::provider::{LocateCall, Provider, ResolveCall};

/// Two projects that nobody has, to see how a location depends on the project.
const PROBES: [&str; 2] = ["rise-broker-probe-1", "rise-broker-probe-2"];

/// Derives where projects live from two answers of `locate`, and sees that `resolve` is its inverse.
pub(super) async fn pattern(
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
pub(super) enum Allowed {
    Host(Host),
    Pattern(LocationPattern),
}

impl Allowed {
    /// The pattern, if it lies inside.
    pub(super) fn hold(
        &self,
        pattern: LocationPattern,
        stated: &Stated<'_>,
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
        Err(stated.problem("/location", message))
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

pub(super) fn allowed(
    config: &RegistryConfig,
    settings: &Value,
    aws: Option<&AwsSettings>,
    stated: &Stated<'_>,
) -> Result<Allowed, Vec<Problem>> {
    if let Some(location) = &config.keys.location {
        return location
            .parse()
            .map(Allowed::Pattern)
            .map_err(|error| stated.problem("/location", format!("{error}")));
    }
    let url = ["registry_url", "base_url"]
        .into_iter()
        .find_map(|name| Some((name, settings.get(name)?.as_str()?)));
    match (aws, url) {
        (Some(aws), _) if !aws.account_id.is_empty() => {
            aws.registry_host().parse().map(Allowed::Host).map_err(|_| stated.problem("/account_id", "makes no host name together with the region".to_owned()))
        }
        (_, Some((name, url))) => Host::from_setting(url).map(Allowed::Host).map_err(|error| stated.problem(&format!("/{name}"), error.to_string())),
        (_, None) => Err(stated.problem("/location", "missing; its settings do not say where its images live, so state it: `location = \"host/prefix/{project}\"`".to_owned())),
    }
}

pub(super) fn collision(registry: &Registry, other: &Registry, origin: &Origin) -> Option<Problem> {
    registry.pattern.collides(registry.children, &other.pattern, other.children).then(|| {
        let message = format!(
            "collides with the registry `{}`: {} and {} can be the same repository, so that an image could belong to both; give them different prefixes",
            other.name, registry.pattern, other.pattern
        );
        Problem::at(origin, format!("registries.{}", registry.name), message)
    })
}
