//! The locations of a registry's images: derived from its provider at start, and checked against
//! its settings.
//!
//! **Invariant:** a request never depends on a provider's answer about locations.

use std::sync::Arc;

use serde_json::Value;

use super::Registry;
use super::build::Stated;
use super::tokens::Signed;
use crate::capability::aws::settings::AwsSettings;
use crate::capability::{Capabilities, printable};
use crate::config::RegistryConfig;
use crate::config::node::{Origin, Problem};
use crate::domain::location::LocationPattern;
use crate::domain::{Host, Location, Project, ProjectShape};
use crate::provider::{LocateCall, Provider, ResolveCall};

/// Two projects that do not exist, to find out how a location depends on the project.
const PROBES: [&str; 2] = ["rise-broker-probe-1", "rise-broker-probe-2"];
/// A project with every separator of the grammar, which older providers do not expect.
const WIDE_PROBE: &str = "rise.broker_probe__3--x";

/// The locations of a registry's projects, and which names its provider handles.
pub(super) struct Located {
    pub(super) pattern: LocationPattern,
    pub(super) shape: ProjectShape,
}

/// Derives the locations of projects from two results of `locate`, and checks that `resolve` is its
/// inverse, for projects of every depth.
pub(super) async fn derive(
    provider: &Provider,
    capabilities: &Arc<Capabilities>,
    settings: &Arc<str>,
    shape: ProjectShape,
) -> Result<Located, String> {
    let prober = Prober { provider, capabilities, settings };
    let least = *shape.depths().start();
    let deep = |error| {
        format!(
            "{error}; set `project_depth = 1`, or use a provider that handles projects of several \
             components"
        )
    };
    let told = |error| if least > 1 { deep(error) } else { error };
    let [first, second] = PROBES;
    let pattern = prober.probe(&nested(first, least)?).await.map_err(told)?;
    prober.expect(&pattern, &nested(second, least)?).await.map_err(told)?;
    for depth in shape.depths().skip(1) {
        prober.expect(&pattern, &nested(first, depth)?).await.map_err(deep)?;
    }
    let wide = prober.expect(&pattern, &nested(WIDE_PROBE, least)?).await.is_ok();
    let longest = shape.longest.min(pattern.longest_project());
    Ok(Located { pattern, shape: ProjectShape { wide, longest, ..shape } })
}

/// The probe, with so many components.
fn nested(probe: &str, depth: usize) -> Result<Project, String> {
    let parts = [probe, "a", "b", "c"].into_iter().chain(std::iter::repeat("d"));
    let name = parts.take(depth).collect::<Vec<_>>().join("/");
    name.parse().map_err(|error| format!("{error}"))
}

struct Prober<'a> {
    provider: &'a Provider,
    capabilities: &'a Arc<Capabilities>,
    settings: &'a Arc<str>,
}

impl Prober<'_> {
    async fn expect(&self, pattern: &LocationPattern, project: &Project) -> Result<(), String> {
        if self.probe(project).await? == *pattern {
            return Ok(());
        }
        Err("the `locate` of its provider returns locations that differ in more than the project"
            .to_owned())
    }

    async fn probe(&self, project: &Project) -> Result<LocationPattern, String> {
        let location = self.locate(project).await?;
        let pattern = LocationPattern::of(&location, project).map_err(|_| {
            format!(
                "the `locate` of its provider returned {location}, which does not contain the \
                 project once, between `/`"
            )
        })?;
        let settings = Arc::clone(self.settings);
        let resolve = ResolveCall { settings, location: location.clone() };
        let resolved = self.provider.call(resolve, self.capabilities).await;
        let resolved =
            resolved.map_err(|error| format!("the `resolve` of its provider failed: {error}"))?;
        if resolved.value.as_deref() == Some(project.as_str()) {
            Ok(pattern)
        } else {
            Err(format!(
                "the `resolve` of its provider is not the inverse of its `locate` for {location}"
            ))
        }
    }

    async fn locate(&self, project: &Project) -> Result<Location, String> {
        let settings = Arc::clone(self.settings);
        let locate = LocateCall { settings, project: project.clone() };
        let located = self.provider.call(locate, self.capabilities).await;
        let located =
            located.map_err(|error| format!("the `locate` of its provider failed: {error}"))?;
        let located = located.value.map_err(|error| {
            format!(
                "the `locate` of its provider returned an error: {}",
                printable(&error.to_string(), 512)
            )
        })?;
        Location::parse(&located.host, &located.repository).map_err(|error| {
            format!("the `locate` of its provider returned an invalid location: {error}")
        })
    }
}

impl Located {
    /// Returns warnings about settings that are valid and probably not meant.
    pub(super) fn warnings(&self, provider: &Provider, stated: &Stated<'_>) -> Vec<Problem> {
        let mut warnings = Vec::new();
        if !self.shape.wide {
            let message = format!(
                "the provider `{}` does not handle project names with `.` and `_`, so requests \
                 for them are denied; use a newer version of the provider",
                provider.manifest.name
            );
            warnings.extend(stated.problem("", message));
        }
        if self.shape.depth > 1 && self.pattern.host().as_str() == "docker.io" {
            let message = "Docker Hub has no repositories below `namespace/name`, so a project \
                 of several components has none there; remove this";
            warnings.extend(stated.problem("/project_depth", message.to_owned()));
        }
        if stated.states("password") && is_ecr(self.pattern.host().as_str()) {
            let message = "images of this host are in Amazon ECR, whose passwords end after twelve \
                 hours, so that callers cannot log in with this one tomorrow; use \
                 `type = \"ecr\"`, which gets a new one for each grant";
            warnings.extend(stated.problem("/password", message.to_owned()));
        }
        let message = unreachable_places(&self.pattern);
        warnings.extend(message.into_iter().flat_map(|message| stated.problem("", message)));
        warnings
    }
}

/// Whether a host is that of a private registry of ECR: `123456789012.dkr.ecr.…`, or `dkr-ecr`.
fn is_ecr(host: &str) -> bool {
    let Some((account, rest)) = host.split_once('.') else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    is_account && (rest.starts_with("dkr.ecr") || rest.starts_with("dkr-ecr"))
}

/// Services whose repositories lie below a user or an organization.
const WITH_OWNER: [&str; 4] = ["ghcr.io", "quay.io", "public.ecr.aws", "registry.gitlab.com"];

/// Why nobody can push to these places.
fn unreachable_places(pattern: &LocationPattern) -> Option<String> {
    let (host, places) = (pattern.host().as_str(), pattern.to_string());
    if places.starts_with("docker.io/library/") {
        return Some(format!(
            "{places} are the official images of Docker Hub, to which only Docker pushes; set \
             `namespace` to your organization"
        ));
    }
    let is_root = places == format!("{host}/{{project}}");
    (is_root && WITH_OWNER.contains(&host)).then(|| {
        format!(
            "repositories of {host} lie below a user or an organization, and {places} does not; \
             set `namespace`"
        )
    })
}

/// The locations that a registry's settings allow.
pub(super) enum Allowed {
    Host(Host),
    Pattern(LocationPattern),
}

impl Allowed {
    /// What is allowed to this provider. One that has registry tokens signed and that nobody has
    /// reviewed does not choose: the host signs for wherever it says that a project is.
    pub(super) fn to(
        self,
        signed: Option<&Signed>,
        is_trusted: bool,
        settings: &Value,
        stated: &Stated<'_>,
    ) -> Result<Self, Vec<Problem>> {
        if is_trusted || !signed.is_some_and(Signed::has_services) {
            return Ok(self);
        }
        self.below_namespace(settings).map_err(|message| stated.problem("/namespace", message))
    }

    /// The places that the settings state.
    fn below_namespace(self, settings: &Value) -> Result<Self, String> {
        let Self::Host(host) = self else { return Ok(self) };
        let namespace = settings.get("namespace").and_then(Value::as_str).unwrap_or_default();
        let namespace = namespace.trim_matches('/');
        let slash = if namespace.is_empty() { "" } else { "/" };
        let pattern = format!("{host}/{namespace}{slash}{{project}}");
        pattern.parse().map(Self::Pattern).map_err(|error| format!("`{pattern}`: {error}"))
    }

    /// Checks that these locations contain those of the pattern.
    pub(super) fn check(
        &self,
        pattern: &LocationPattern,
        stated: &Stated<'_>,
    ) -> Result<(), Vec<Problem>> {
        let (holds, remedy) = match self {
            Self::Host(host) => (pattern.host() == host, "set `location` if that is intended"),
            Self::Pattern(allowed) => (
                PROBES[0].parse().is_ok_and(|probe: Project| {
                    allowed.fill(&probe).contains(&pattern.fill(&probe))
                }),
                "correct `location`, or the settings that determine the location",
            ),
        };
        if holds {
            return Ok(());
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
    needed: Option<&Host>,
    stated: &Stated<'_>,
) -> Result<Allowed, Vec<Problem>> {
    if let Some(location) = &config.keys.location {
        return location
            .parse()
            .map(Allowed::Pattern)
            .map_err(|error| stated.problem("/location", format!("{error}")));
    }
    let has_account = aws.is_some_and(|aws| !aws.account_id.is_empty());
    let url = |name: &'static str| Some((name, settings.get(name)?.as_str()?));
    // What the operator states counts, and only then what the provider says.
    if let (false, None, Some(host)) = (has_account, url("registry_url"), needed) {
        return Ok(Allowed::Host(host.clone()));
    }
    if let Some((aws, alias)) = aws.and_then(|aws| Some((aws, aws.public_alias.as_ref()?))) {
        // Everybody's images have this host.
        let places = format!("{}/{alias}/{}{{project}}", aws.registry_host(), aws.repo_prefix);
        return places
            .parse()
            .map(Allowed::Pattern)
            .map_err(|error| stated.problem("/public_alias", format!("`{places}`: {error}")));
    }
    match (aws, url("registry_url").or_else(|| url("base_url"))) {
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
    registry.pattern.collides(registry.shape, &other.pattern, other.shape).then(|| {
        let message = format!(
            "collides with the registry `{}`: {} and {} can be the same repository, and an image \
             could belong to both; give them different prefixes",
            other.name, registry.pattern, other.pattern
        );
        Problem::at(origin, format!("registries.{}", registry.name), message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_provider_that_nobody_reviewed_does_not_choose_what_is_signed() {
        let project: Project = "my-app".parse().unwrap();
        for (settings, place, holds) in [
            (json!({}), "my-app", true),
            (json!({ "namespace": "team" }), "team/my-app", true),
            (json!({ "namespace": "team" }), "team/my-app/web", true),
            (json!({ "namespace": "team" }), "my-app", false),
            (json!({ "namespace": "team" }), "other/my-app", false),
            (json!({}), "other/my-app", false),
        ] {
            let host = Allowed::Host("r.example.com".parse().unwrap());
            let Ok(Allowed::Pattern(allowed)) = host.below_namespace(&settings) else {
                panic!("{settings}")
            };
            let place = Location::parse("r.example.com", place).unwrap();
            assert_eq!(allowed.fill(&project).contains(&place), holds, "{settings} {place}");
        }
    }
}
