//! `[[auth.issuers]]`: what is stated, what the preset fills in, and what is known of them to the rules.

use super::file::{AuthFile, IssuerFile};
use super::node::{Node, Problem, dotted};
use crate::domain::ClaimPath;
use crate::identity::{
    Algorithm, DiscoverySettings, IdentitySettings, IssuerSettings, KeyOrigin, Preset, TokenPolicy,
};
use crate::rules::{IssuerKind, Known};

/// What rules may refer to, also where it has problems of its own: those have been reported.
pub(super) fn known(root: &Node, issuers: &[IssuerFile]) -> Known {
    let registries =
        root.get("registries").and_then(Node::table).into_iter().flat_map(|it| it.keys());
    let names = root.get("auth").and_then(|it| it.get("issuers")).map_or(&[][..], Node::items);
    let names = names.iter().filter_map(|it| it.get("name")?.text());
    let known = Known::new(names, registries.filter_map(|name| name.parse().ok()));
    issuers.iter().fold(known, |known, it| known.issuer(&it.name, kind(it), it.mode))
}

/// Whose tokens these are: by preset, else by the issuer that everybody knows.
fn kind(file: &IssuerFile) -> IssuerKind {
    let is_of =
        |preset: &Preset| file.issuer.is_some() && file.issuer.as_deref() == preset.issuer();
    let known = [Preset::GithubActions, Preset::Gitlab, Preset::Google];
    match file.preset.or_else(|| known.into_iter().find(is_of)) {
        Some(Preset::GithubActions) => IssuerKind::GithubActions,
        Some(Preset::Gitlab) => IssuerKind::Gitlab,
        Some(Preset::Kubernetes) => IssuerKind::Kubernetes,
        Some(Preset::Google) => IssuerKind::Google,
        Some(Preset::Buildkite | Preset::Generic) | None => IssuerKind::Other,
    }
}

/// `longest`: `[limits.policy] max_token_lifetime`.
pub(super) fn identity(
    root: &Node,
    auth: AuthFile,
    longest: Option<u32>,
    problems: &mut Vec<Problem>,
) -> IdentitySettings {
    let problem = |pointer: &str, message: &str| {
        Problem::at(&root.nearest(pointer).origin, dotted("", pointer), message)
    };
    if auth.audience.as_deref().unwrap_or_default().is_empty() && !auth.issuers.is_empty() {
        let message = "missing; every token must be meant for this deployment, so name its audience, such as \"rise-registry\"";
        problems.push(problem("/auth/audience", message));
    }
    let mut issuers = Vec::new();
    for (index, issuer) in auth.issuers.into_iter().enumerate() {
        match issuer_settings(issuer, longest) {
            Ok(settings) => issuers.push(settings),
            Err((field, message)) => {
                problems.push(problem(&format!("/auth/issuers/{index}/{field}"), &message));
            }
        }
    }
    IdentitySettings { audience: auth.audience.unwrap_or_default(), issuers }
}

/// A key, and what is wrong with it.
type Wrong = (&'static str, String);

fn issuer_settings(file: IssuerFile, longest: Option<u32>) -> Result<IssuerSettings, Wrong> {
    let policy = policy(&file, longest)?;
    let name = file.name.clone();
    Ok(IssuerSettings { name, policy, keys: key_origin(file)? })
}

fn key_origin(file: IssuerFile) -> Result<KeyOrigin, Wrong> {
    let only_discovery = [
        ("jwks_hosts", file.jwks_hosts.is_some()),
        ("internal", file.internal.is_some()),
        ("ca_file", file.ca_file.is_some()),
        ("bearer_file", file.bearer_file.is_some()),
    ];
    let stated = only_discovery.into_iter().find(|(_, is_stated)| *is_stated).map(|(key, _)| key);
    let issuer = file.issuer.or_else(|| file.preset?.issuer().map(str::to_owned));
    if let Some(key) = stated.filter(|_| file.jwks_file.is_some() || file.key_file.is_some()) {
        return Err((key, "is for keys that are fetched, and these come from a file".to_owned()));
    }
    match (issuer, file.jwks_file, file.key_file) {
        (None, None, Some(key_file)) if file.name == "local" => Ok(KeyOrigin::Local { key_file }),
        (None, None, None) if file.name == "local" => Err((
            "key_file",
            "missing; name the file of its private key, which is made on first use".to_owned(),
        )),
        (Some(issuer), None, None) => Ok(KeyOrigin::Discovery(DiscoverySettings {
            issuer,
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
            "is for the built-in issuer named `local`, which has no `issuer` and no `jwks_file`"
                .to_owned(),
        )),
        (None, _, None) => Err(("issuer", "missing; write the `iss` of its tokens".to_owned())),
    }
}

/// What is stated wins over the preset, and that over the default.
fn policy(file: &IssuerFile, longest: Option<u32>) -> Result<TokenPolicy, Wrong> {
    let mut policy = file.preset.map(Preset::policy).unwrap_or_default();
    if let Some(names) = &file.algorithms {
        let algorithms = names.iter().map(|name| name.parse::<Algorithm>());
        policy.algorithms = algorithms
            .collect::<Result<_, _>>()
            .map_err(|error| ("algorithms", error.to_string()))?;
    }
    if let Some(names) = &file.required_claims {
        let wrong = |name: &str, error| ("required_claims", format!("claim `{name}` {error}"));
        let paths = names.iter().map(|it| ClaimPath::parse(it).map_err(|error| wrong(it, error)));
        policy.required_claims = paths.collect::<Result<_, _>>()?;
    }
    if let (Some(stated), Some(longest)) = (file.max_lifetime, longest)
        && stated > longest
    {
        let message =
            format!("is more than [limits.policy] `max_token_lifetime` permits: {longest}");
        return Err(("max_lifetime", message));
    }
    let lifetime = file.max_lifetime.map_or(policy.max_lifetime, i64::from);
    policy.max_lifetime = longest.map_or(lifetime, |longest| lifetime.min(longest.into()));
    policy.max_age = file.max_age.map(i64::from).or(policy.max_age);
    policy.token_types = file.token_types.clone().unwrap_or(policy.token_types);
    policy.require_kid = file.require_kid.unwrap_or(policy.require_kid);
    policy.mixed_algorithms = file.mixed_algorithms;
    policy.replay = file.replay;
    Ok(policy)
}
