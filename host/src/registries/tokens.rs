//! The tokens that a registry may have signed, from its settings.
//!
//! A registry that names no service and no audience has none signed: its provider may offer a login
//! by a token, and this registry uses another one. The capability is closed then.

use std::sync::Arc;

use serde_json::Value;

use super::Registry;
use super::build::Stated;
use super::location::Located;
use crate::capability::Capabilities;
use crate::capability::tokens::{TokenAccess, TokenCeiling};
use crate::config::RegistryConfig;
use crate::config::node::{Origin, Problem};
use crate::domain::Host;
use crate::provider::Provider;
use crate::signing::Signing;

/// The algorithms that a cloud accepts, and how the audience of each token for it begins.
struct Verifier {
    audience: &'static str,
    name: &'static str,
    algorithms: &'static [&'static str],
}

/// How the key that signs becomes one for another algorithm.
pub(super) const ROTATE_TWICE: &str = "run `rise-broker keys rotate` twice, 12 hours apart (with \
    `--now`, if nobody uses its tokens yet)";
pub(super) const STOPS_LATER: &str = "`keys rotate` would stop this registry; set `algorithm = \
    \"RS256\"` in [signing], and rotate twice if `keys list` shows such a key already";

/// STS is not here: the host itself makes its tokens, and `aws` checks them.
const VERIFIERS: [Verifier; 2] = [
    Verifier {
        audience: "api://AzureADTokenExchange",
        name: "Microsoft Entra ID",
        algorithms: &["RS256"],
    },
    Verifier { audience: "//iam.googleapis.com/", name: "Google", algorithms: &["RS256", "ES256"] },
];

/// What a registry may have signed, and by what.
pub(super) struct Signed {
    ceiling: TokenCeiling,
    pub(super) signing: Arc<Signing>,
}

/// Returns what the registry may have signed, if its settings name a service or an audience.
pub(super) fn signed(
    provider: &Provider,
    settings: &Value,
    config: &RegistryConfig,
    (signing, stated): (Option<&Arc<Signing>>, &Stated<'_>),
    warnings: &mut Vec<Problem>,
) -> Result<Option<Signed>, Vec<Problem>> {
    let allowed = config.keys.ceiling.tokens.as_ref();
    if !provider.imports.contains(&"tokens") {
        return match allowed {
            Some(_) => Err(stated.problem(
                "/ceiling/tokens",
                "its provider has no tokens signed: it does not import `tokens`; remove this"
                    .to_owned(),
            )),
            None => Ok(None),
        };
    }
    let text = |name: &str| settings.get(name).and_then(Value::as_str);
    let host = text("registry_url").and_then(|url| Host::from_setting(url).ok());
    // Only what the component can ask for: the host of a cloud's registry is no service.
    let service = text("service").or_else(|| host.as_ref().map(Host::as_str));
    let service = service.filter(|_| provider.tokens.registry_token);
    // With `web_identity` it is STS's, for tokens that the host alone has.
    let is_of_host = settings.get("web_identity").and_then(Value::as_bool) == Some(true);
    let audience = text("audience").filter(|_| provider.tokens.identity_token && !is_of_host);
    let ceiling = TokenCeiling::new(allowed, service, audience)
        .map_err(|error| stated.problem("/ceiling/tokens", error.to_string()))?;
    if ceiling == TokenCeiling::default() {
        return Ok(None);
    }
    let Some(signing) = signing else {
        let names = ceiling.services.iter().chain(&ceiling.audiences);
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        let message = format!(
            "its provider `{}` has tokens signed for {}, and this broker signs none; set `issuer` \
             in [signing]",
            provider.manifest.name,
            names.join(", ")
        );
        return Err(stated.problem("", message));
    };
    if let Some(message) = rejected(&ceiling.audiences, signing.algorithm()) {
        return Err(stated.problem("/audience", message));
    }
    let signed = Signed { ceiling, signing: Arc::clone(signing) };
    warnings.extend(signed.warnings((service, audience), stated));
    Ok(Some(signed))
}

/// The cloud of one of these audiences, if it rejects every token that is signed with `algorithm`.
fn rejecting<'a>(audiences: &'a [String], algorithm: &str) -> Option<(&'a str, &'static Verifier)> {
    audiences.iter().find_map(|audience| {
        let verifier = VERIFIERS.iter().find(|known| audience.starts_with(known.audience))?;
        (!verifier.algorithms.contains(&algorithm)).then_some((audience.as_str(), verifier))
    })
}

/// The keys of today work, and a rotation would stop the registry.
fn rejected_later(audiences: &[String], algorithms: [&str; 2]) -> Option<String> {
    let rejecting = |later| Some((later, rejecting(audiences, later)?.1));
    let (later, Verifier { name, algorithms, .. }) = algorithms.into_iter().find_map(rejecting)?;
    let accepted = algorithms.join(" and ");
    Some(format!("later keys are for {later}, and {name} accepts {accepted} only: {STOPS_LATER}"))
}

/// Why the cloud of one of these audiences rejects every token that is signed with `algorithm`.
fn rejected(audiences: &[String], algorithm: &str) -> Option<String> {
    let (audience, Verifier { name, algorithms, .. }) = rejecting(audiences, algorithm)?;
    Some(format!(
        "`{audience}` is the audience of {name}, which accepts {} only, and the signing key is for \
         {algorithm}: set `algorithm = \"RS256\"` in [signing], and {ROTATE_TWICE}",
        algorithms.join(" and ")
    ))
}

impl Signed {
    /// What is allowed and probably not intended. `own`: the service and the audience that the
    /// settings of the registry name.
    fn warnings(&self, own: (Option<&str>, Option<&str>), stated: &Stated<'_>) -> Vec<Problem> {
        let Self { ceiling, signing } = self;
        let lacks = |pointer: &str, names: &[String], own: Option<&str>| {
            let own = own.filter(|own| !names.iter().any(|name| name == own))?;
            let message = format!(
                "lacks `{own}`, which the settings of the registry name: its provider is refused a \
                 token for that; add it, or remove this"
            );
            Some(stated.problem(&format!("/ceiling/tokens/{pointer}"), message))
        };
        let algorithm = (signing.algorithm() == "EdDSA").then(|| {
            let message = "its tokens are signed with Ed25519, which no Distribution registry and \
                           no cloud accepts; set `algorithm = \"RS256\"` in [signing], and";
            stated.problem("", format!("{message} {ROTATE_TWICE}"))
        });
        let later = rejected_later(&ceiling.audiences, signing.later_algorithms());
        [
            lacks("services", &ceiling.services, own.0),
            lacks("audiences", &ceiling.audiences, own.1),
            algorithm,
            later.map(|message| stated.problem("/audience", message)),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect()
    }

    /// Whether callers get tokens of this broker.
    pub(super) fn has_services(&self) -> bool {
        !self.ceiling.services.is_empty()
    }
}

/// Opens `tokens` for what the registry may have signed.
pub(super) fn open(
    capabilities: &Capabilities,
    signed: Option<Signed>,
    located: &Located,
) -> Arc<Capabilities> {
    let tokens = signed.map(|Signed { ceiling, signing }| {
        let (pattern, children) = (located.pattern.clone(), located.shape.children);
        TokenAccess { ceiling, signing, pattern, children }
    });
    Arc::new(Capabilities { tokens, ..capabilities.clone() })
}

/// A registry accepts a token by its `service`, which says nothing of the host: at two hosts with
/// one service, a token for a repository of one opens the same repository of the other.
pub(super) fn confusion(registry: &Registry, other: &Registry, origin: &Origin) -> Option<Problem> {
    let ceiling = |registry: &Registry| {
        let tokens = registry.capabilities.tokens.as_ref();
        let mut ceiling = tokens.map(|tokens| tokens.ceiling.clone()).unwrap_or_default();
        let aws = registry.capabilities.aws.as_ref();
        let web_identity = aws.and_then(|aws| aws.web_identity.as_ref());
        ceiling.audiences.extend(web_identity.map(|identity| identity.audience.clone()));
        ceiling
    };
    let (own, of_other) = (ceiling(registry), ceiling(other));
    let is_audience = |service: &&String| {
        own.services.contains(service) && of_other.audiences.contains(service)
            || of_other.services.contains(service) && own.audiences.contains(service)
    };
    if let Some(both) = own.services.iter().chain(&of_other.services).find(is_audience) {
        let message = format!(
            "`{both}` is the service of one registry and the audience of another, `{}`: callers \
             could show their tokens to the cloud; give the two different names",
            other.name
        );
        return Some(Problem::at(origin, format!("registries.{}", registry.name), message));
    }
    let service = own.services.into_iter().find(|service| of_other.services.contains(service))?;
    let (host, other_host) = (registry.pattern.host(), other.pattern.host());
    (host != other_host).then(|| {
        let message = format!(
            "has the service `{service}`, and so has the registry `{}`: a token for {host} would \
             also open {other_host}; give the two registries different names as `service`, here \
             and in their own settings",
            other.name
        );
        Problem::at(origin, format!("registries.{}", registry.name), message)
    })
}
