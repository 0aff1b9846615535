//! The tokens that a registry may have signed, from its settings.

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

/// Opens `tokens` if the provider imports it.
pub(super) fn add(
    capabilities: Arc<Capabilities>,
    settings: &Value,
    config: &RegistryConfig,
    (provider, signing, located): (&Provider, Option<&Arc<Signing>>, &Located),
    stated: &Stated<'_>,
) -> Result<Arc<Capabilities>, Vec<Problem>> {
    let allowed = config.keys.ceiling.tokens.as_ref();
    if !provider.imports.contains(&"tokens") {
        return match allowed {
            Some(_) => Err(stated.problem(
                "/ceiling/tokens",
                "its provider has no tokens signed: it does not import `tokens`; remove this"
                    .to_owned(),
            )),
            None => Ok(capabilities),
        };
    }
    let Some(signing) = signing else {
        let message = format!(
            "the provider `{}` has tokens signed, and this broker signs none; set `issuer` in \
             [signing]",
            provider.manifest.name
        );
        return Err(stated.problem("", message));
    };
    let text = |name: &str| settings.get(name).and_then(Value::as_str);
    let host = text("registry_url").and_then(|url| Host::from_setting(url).ok());
    let service = text("service").or_else(|| host.as_ref().map(Host::as_str));
    let ceiling = TokenCeiling::new(allowed, service, text("audience"))
        .map_err(|error| stated.problem("/ceiling/tokens", error.to_string()))?;
    let signing = Arc::clone(signing);
    let (pattern, children) = (located.pattern.clone(), located.shape.children);
    let tokens = Some(TokenAccess { ceiling, signing, pattern, children });
    Ok(Arc::new(Capabilities { tokens, ..Capabilities::clone(&capabilities) }))
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
