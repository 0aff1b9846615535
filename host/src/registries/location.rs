//! The locations of a registry's images: derived from its provider at start, and checked against
//! its settings.
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

/// Two projects that do not exist, to find out how a location depends on the project.
const PROBES: [&str; 2] = ["rise-broker-probe-1", "rise-broker-probe-2"];

/// Derives the locations of projects from two results of `locate`, and checks that `resolve` is its
/// inverse.
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
            .map_err(|error| format!("the `locate` of its provider failed: {error}"))?;
        let located = located.value.map_err(|error| {
            format!(
                "the `locate` of its provider returned an error: {}",
                printable(&error.to_string(), 512)
            )
        })?;
        let location = Location::parse(&located.host, &located.repository).map_err(|error| {
            format!("the `locate` of its provider returned an invalid location: {error}")
        })?;
        let pattern = LocationPattern::of(&location, &project).map_err(|_| {
            format!(
                "the `locate` of its provider returned {location}, which does not contain the \
                     project once as a whole path segment"
            )
        })?;
        let resolve = ResolveCall { settings: Arc::clone(settings), location: location.clone() };
        let resolved = provider
            .call(resolve, capabilities)
            .await
            .map_err(|error| format!("the `resolve` of its provider failed: {error}"))?;
        if resolved.value.as_deref() != Some(probe) {
            return Err(format!(
                "the `resolve` of its provider is not the inverse of its `locate` for {location}"
            ));
        }
        patterns.push(pattern);
    }
    match patterns.as_slice() {
        [first, second] if first == second => Ok(first.clone()),
        _ => Err(
            "the `locate` of its provider returns locations that differ in more than the project"
                .to_owned(),
        ),
    }
}

/// The locations that a registry's settings allow.
pub(super) enum Allowed {
    Host(Host),
    Pattern(LocationPattern),
}

impl Allowed {
    /// Returns the pattern if these locations contain it.
    pub(super) fn check(
        &self,
        pattern: LocationPattern,
        stated: &Stated<'_>,
    ) -> Result<LocationPattern, Vec<Problem>> {
        let probe = PROBES[0].parse();
        let (holds, remedy) = match self {
            Self::Host(host) => (pattern.host() == host, "set `location` if that is intended"),
            Self::Pattern(allowed) => (
                probe.is_ok_and(|probe| allowed.fill(&probe).contains(&pattern.fill(&probe))),
                "correct `location`, or the settings that determine the location",
            ),
        };
        if holds {
            return Ok(pattern);
        }
        let message = format!("its images would be at {pattern}, outside {self}; {remedy}");
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
            aws.registry_host().parse().map(Allowed::Host).map_err(|_| {
                let message =
                    "does not form a host name together with the region; correct one of them";
                stated.problem("/account_id", message.to_owned())
            })
        }
        (_, Some((name, url))) => Host::from_setting(url)
            .map(Allowed::Host)
            .map_err(|error| stated.problem(&format!("/{name}"), error.to_string())),
        (_, None) => {
            let message = "missing; the other settings do not determine the location of its \
                images, so set `location = \"host/prefix/{project}\"`";
            Err(stated.problem("/location", message.to_owned()))
        }
    }
}

pub(super) fn collision(registry: &Registry, other: &Registry, origin: &Origin) -> Option<Problem> {
    registry.pattern.collides(registry.children, &other.pattern, other.children).then(|| {
        let message = format!(
            "collides with the registry `{}`: {} and {} can be the same repository, and an image \
             could belong to both; give them different prefixes",
            other.name, registry.pattern, other.pattern
        );
        Problem::at(origin, format!("registries.{}", registry.name), message)
    })
}
