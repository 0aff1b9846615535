//! The HTTP ceiling and client of a registry, from its settings.
//!
//! **Invariant:** if a provider issues what it received over HTTP, its registry exists only if the
//! operator trusts the provider.

use serde_json::Value;

use super::Clients;
use super::build::Stated;
use crate::capability::http::HttpAccess;
use crate::capability::http::ceiling::{HttpCeiling, InvalidHttpCeiling};
use crate::config::RegistryConfig;
use crate::config::node::Problem;
use crate::domain::{ProjectShape, Scope};
use crate::provider::Provider;
use crate::reachable;

/// The provider determines the scope of what a registry returns, and the host cannot check it.
pub(super) fn open(
    provider: &Provider,
    settings: &Value,
    config: &RegistryConfig,
    (scope, is_trusted, shape, clients): (Scope, bool, ProjectShape, &Clients),
    stated: &Stated<'_>,
) -> Result<Option<HttpAccess>, Vec<Problem>> {
    let keys = &config.keys;
    let allowed = keys.ceiling.http.as_ref();
    if !provider.imports.contains(&"http") {
        return match allowed {
            Some(_) => Err(stated.problem(
                "/ceiling/http",
                "its provider does not use HTTP: it does not import `http`, which it does as soon \
                 as its code sends a request; remove this"
                    .to_owned(),
            )),
            None => Ok(None),
        };
    }
    let base_url = settings.get("base_url").and_then(Value::as_str);
    let ceiling = HttpCeiling::new(allowed, base_url, shape).map_err(|error| {
        let pointer = match &error {
            InvalidHttpCeiling::Missing => "/ceiling/http".to_owned(),
            InvalidHttpCeiling::Endpoint { index, .. } => format!("/ceiling/http/allow/{index}"),
            InvalidHttpCeiling::BaseUrl { .. } => "/base_url".to_owned(),
        };
        stated.problem(&pointer, error.to_string())
    })?;
    if scope != Scope::None && !is_trusted {
        return Err(stated.problem("/trust_provider", untrusted(provider)));
    }
    let proxy = allowed.and_then(|allowed| allowed.proxy.as_deref());
    if proxy.is_some_and(|proxy| reachable::proxy(proxy).is_none()) {
        let expected = "must be an http:// or https:// URL with a host, such as \
                        \"http://proxy:3128\"";
        return Err(stated.problem("/ceiling/http/proxy", expected.to_owned()));
    }
    let client = clients.http(stated.name, ceiling.reach(), ceiling.has_plain(), proxy);
    let client = client.map_err(|error| {
        stated.problem("/ceiling/http", format!("no HTTP client can be made: {error}"))
    })?;
    Ok(Some(HttpAccess { ceiling, client }))
}

fn untrusted(provider: &Provider) -> String {
    format!(
        "missing; the provider `{}` issues what the registry returns over HTTP, and only the \
         provider knows the scope of that; review the provider, then set `trust_provider = true` \
         or run `rise-broker provider lock`; answers then have `enforced_by: provider`",
        provider.manifest.name
    )
}
