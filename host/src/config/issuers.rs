//! `[[auth.issuers]]`: the stated settings, the values of the preset, and the names for the rules.

use std::collections::BTreeMap;

use super::RegistryConfig;
use super::file::{AuthFile, IssuerFile};
use super::node::{Node, Problem, dotted};
use crate::domain::{ClaimPath, RegistryName};
use crate::identity::{
    Algorithm, DiscoverySettings, IdentitySettings, IssuerSettings, KeyOrigin, Preset, TokenPolicy,
};
use crate::rules::{IssuerKind, Known, missing_claim};

/// Seconds. Two clocks may differ by some, and a job makes other requests first.
const LEAST_AGE: u32 = 30;

/// Returns the names that rules may use. Names with problems are included, because these problems
/// are already reported.
pub(super) fn known(
    root: &Node,
    issuers: &[IssuerFile],
    checked: &BTreeMap<RegistryName, RegistryConfig>,
) -> Known {
    let registries =
        root.get("registries").and_then(Node::table).into_iter().flat_map(BTreeMap::keys);
    let names = root.get("auth").and_then(|auth| auth.get("issuers")).map_or(&[][..], Node::items);
    let names = names.iter().filter_map(|issuer| issuer.get("name")?.text());
    let known = Known::new(names, registries.filter_map(|name| name.parse().ok()));
    let known = issuers
        .iter()
        .fold(known, |known, issuer| known.issuer(&issuer.name, kind(issuer), issuer.mode));
    let shapes = checked.iter().map(|(name, registry)| (name, registry.written_shape()));
    shapes.fold(known, |known, (name, shape)| known.shape(name, shape))
}

/// Returns the service of the issuer, by preset or by a public issuer URL.
fn kind(file: &IssuerFile) -> IssuerKind {
    let is_of =
        |preset: &Preset| file.issuer.is_some() && file.issuer.as_deref() == preset.issuer();
    let known = [Preset::GithubActions, Preset::Gitlab, Preset::Google, Preset::Buildkite];
    match file.preset.or_else(|| known.into_iter().find(is_of)) {
        Some(Preset::GithubActions) => IssuerKind::GithubActions,
        Some(Preset::Gitlab) => IssuerKind::Gitlab,
        Some(Preset::Kubernetes) => IssuerKind::Kubernetes,
        Some(Preset::Google) => IssuerKind::Google,
        Some(Preset::Buildkite) => IssuerKind::Buildkite,
        Some(Preset::Aws) => IssuerKind::Aws,
        Some(Preset::Circleci) => IssuerKind::Circleci,
        Some(Preset::Bitbucket) => IssuerKind::Bitbucket,
        Some(Preset::Azure | Preset::Spiffe | Preset::Generic) | None => IssuerKind::Other,
    }
}

/// Warnings about settings under which every token of the service is rejected.
pub(super) fn doubts(root: &Node, issuers: &[IssuerFile]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (index, file) in issuers.iter().enumerate() {
        let mut warn = |field: &str, message: String| {
            let pointer = format!("/auth/issuers/{index}/{field}");
            let origin = &root.nearest(&pointer).origin;
            let message = format!("{message}: every token is rejected; remove it or correct it");
            warnings.push(Problem::at(origin, dotted("", &pointer), message));
        };
        if let Some(seconds) = file.max_age.filter(|seconds| *seconds < LEAST_AGE) {
            let of_use = format!("{seconds} s is less than a job needs between token and request");
            warn("max_age", of_use);
        }
        let claims = file.required_claims.iter().flatten();
        let missing =
            |name: &String| missing_claim(kind(file), ClaimPath::parse(name).ok()?.first());
        claims.filter_map(missing).for_each(|missing| warn("required_claims", missing));
        // Others choose what they sign with.
        let Some(preset) = file.preset.filter(|preset| preset.issuer().is_some()) else { continue };
        let TokenPolicy { algorithms, token_types, .. } = preset.policy();
        let is_meant = |name: &String| name.parse().is_ok_and(|name| algorithms.contains(&name));
        if file.algorithms.as_ref().is_some_and(|names| !names.iter().any(is_meant)) {
            let names: Vec<&str> = algorithms.iter().map(|name| name.as_str()).collect();
            warn("algorithms", format!("this service signs with {}", names.join(", ")));
        }
        let is_type = |name: &String| token_types.iter().any(|own| own.eq_ignore_ascii_case(name));
        if file.token_types.as_ref().is_some_and(|names| !names.iter().any(is_type)) {
            warn("token_types", format!("its tokens have `typ` {}", token_types.join(", ")));
        }
    }
    warnings
}

/// `longest` is `[limits.policy] max_token_lifetime`.
pub(super) fn identity(
    root: &Node,
    auth: AuthFile,
    longest: Option<u32>,
    problems: &mut Vec<Problem>,
) -> IdentitySettings {
    let problem = |pointer: &str, message: &str| {
        Problem::at(&root.nearest(pointer).origin, dotted("", pointer), message)
    };
    let audience = auth.audience.filter(|audience| !audience.is_empty());
    if audience.is_none() && auth.issuers.iter().any(|issuer| issuer.audience.is_none()) {
        let message = "missing; set the audience that every token must have, such as \
            \"rise-registry\", or an `audience` for each issuer";
        problems.push(problem("/auth/audience", message));
    }
    let mut issuers = Vec::new();
    for (index, issuer) in auth.issuers.into_iter().enumerate() {
        match issuer_settings(issuer, audience.as_deref(), longest) {
            Ok(settings) => issuers.push(settings),
            Err((field, message)) => {
                problems.push(problem(&format!("/auth/issuers/{index}/{field}"), &message));
            }
        }
    }
    IdentitySettings { issuers }
}

/// A key and the problem with it.
type IssuerProblem = (&'static str, String);

fn issuer_settings(
    file: IssuerFile,
    audience: Option<&str>,
    longest: Option<u32>,
) -> Result<IssuerSettings, IssuerProblem> {
    let policy = policy(&file, longest)?;
    let audience = file.audience.clone().or_else(|| audience.map(str::to_owned));
    // If there is none, that problem is reported already.
    let audience = audience.unwrap_or_else(|| "none".to_owned());
    let name = file.name.clone();
    Ok(IssuerSettings { name, audience, policy, keys: key_origin(file)? })
}

fn key_origin(file: IssuerFile) -> Result<KeyOrigin, IssuerProblem> {
    let only_discovery = [
        ("jwks_hosts", file.jwks_hosts.is_some()),
        ("internal", file.internal.is_some()),
        ("ca_file", file.ca_file.is_some()),
        ("bearer_file", file.bearer_file.is_some()),
        ("discovery_url", file.discovery_url.is_some()),
        ("proxy", file.proxy.is_some()),
    ];
    let stated = only_discovery.into_iter().find(|(_, is_stated)| *is_stated).map(|(key, _)| key);
    let issuer = file.issuer.or_else(|| file.preset?.issuer().map(str::to_owned));
    if let Some(key) = stated.filter(|_| file.jwks_file.is_some() || file.key_file.is_some()) {
        return Err((
            key,
            "is only for fetched keys, but the keys of this issuer come from a file; remove it"
                .to_owned(),
        ));
    }
    match (issuer, file.jwks_file, file.key_file) {
        (None, None, Some(key_file)) if file.name == "local" => Ok(KeyOrigin::Local { key_file }),
        (None, None, None) if file.name == "local" => Err((
            "key_file",
            "missing; name a file for its private key, which the broker creates on first use"
                .to_owned(),
        )),
        (Some(issuer), None, None) => Ok(KeyOrigin::Discovery(DiscoverySettings {
            issuer,
            discovery_url: file.discovery_url,
            bearer_hosts: file.jwks_hosts.clone().unwrap_or_default(),
            proxy: file.proxy,
            jwks_hosts: file
                .jwks_hosts
                .or_else(|| file.preset.map(Preset::jwks_hosts))
                .unwrap_or_default(),
            internal: file.internal.unwrap_or_default(),
            ca_file: file.ca_file,
            bearer_file: file.bearer_file,
        })),
        (Some(issuer), Some(path), None) => Ok(KeyOrigin::JwksFile { issuer, path }),
        (_, _, Some(_)) => Err((
            "key_file",
            "is only for the built-in issuer `local`, which has no `issuer` and no `jwks_file`; \
             remove the wrong key"
                .to_owned(),
        )),
        (None, _, None) => Err(("issuer", "missing; set it to the `iss` of its tokens".to_owned())),
    }
}

/// A stated value overrides the preset, and the preset overrides the default.
fn policy(file: &IssuerFile, longest: Option<u32>) -> Result<TokenPolicy, IssuerProblem> {
    let mut policy = file.preset.map(Preset::policy).unwrap_or_default();
    if let Some(names) = &file.algorithms {
        let algorithms = names.iter().map(|name| name.parse::<Algorithm>());
        policy.algorithms = algorithms
            .collect::<Result<_, _>>()
            .map_err(|error| ("algorithms", error.to_string()))?;
    }
    if let Some(names) = &file.required_claims {
        let wrong = |name: &str, error| ("required_claims", format!("claim `{name}` {error}"));
        let paths =
            names.iter().map(|name| ClaimPath::parse(name).map_err(|error| wrong(name, error)));
        policy.required_claims = paths.collect::<Result<_, _>>()?;
    }
    if let (Some(stated), Some(longest)) = (file.max_lifetime, longest)
        && stated > longest
    {
        let message =
            format!("exceeds [limits.policy] `max_token_lifetime`; set it to {longest} or less");
        return Err(("max_lifetime", message));
    }
    let lifetime = file.max_lifetime.map_or(policy.max_lifetime, i64::from);
    policy.max_lifetime = longest.map_or(lifetime, |longest| lifetime.min(longest.into()));
    policy.max_age = file.max_age.map(i64::from).or(policy.max_age);
    policy.token_types = file.token_types.clone().unwrap_or(policy.token_types);
    policy.require_kid = file.require_kid.unwrap_or(policy.require_kid);
    policy.mixed_algorithms |= file.mixed_algorithms;
    policy.replay = file.replay;
    Ok(policy)
}
