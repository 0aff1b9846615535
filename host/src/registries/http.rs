//! The HTTP ceiling and client of a registry, from its settings.
//!
//! **Invariant:** if a provider issues what it received over HTTP, its registry exists only if the
//! operator trusts the provider.

use serde_json::Value;

use super::build::Stated;
use super::clients::HttpClientSource;
use super::{Clients, needs::Needs};
use crate::capability::http::HttpAccess;
use crate::capability::http::ceiling::{HttpCeiling, InvalidHttpCeiling};
use crate::config::node::Problem;
use crate::config::{self, HttpCeilingFile, RegistryConfig};
use crate::domain::{ProjectShape, Scope};
use crate::provider::Provider;
use crate::reachable;

/// The provider determines the scope of what a registry returns, and the host cannot check it.
pub(super) fn open(
    provider: &Provider,
    settings: &Value,
    config: &RegistryConfig,
    (scope, is_trusted, shape, clients): (Scope, bool, ProjectShape, &Clients),
    needs: &Needs,
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
    let states_requests = allowed.is_some_and(|allowed| allowed.allow.is_some());
    let needed = needs.requests.as_deref();
    if needed.is_some_and(<[String]>::is_empty) && !states_requests {
        return Ok(None);
    }
    let base_url = settings.get("base_url").and_then(Value::as_str);
    let ceiling = HttpCeiling::new(allowed, needed, base_url, shape);
    let ceiling = ceiling.map_err(|error| {
        let pointer = match &error {
            InvalidHttpCeiling::Missing | InvalidHttpCeiling::Needed { .. } => {
                "/ceiling/http".to_owned()
            }
            InvalidHttpCeiling::Lacking { .. } => "/ceiling/http/allow".to_owned(),
            InvalidHttpCeiling::Endpoint { index, .. } => format!("/ceiling/http/allow/{index}"),
            InvalidHttpCeiling::BaseUrl { .. } => "/base_url".to_owned(),
        };
        let mut problems = stated.problem(&pointer, error.to_string());
        if !is_trusted && scope != Scope::None {
            problems.extend(stated.problem("/trust_provider", untrusted(provider, None)));
        }
        problems
    })?;
    let chose_itself = needed.is_some() && !states_requests && !ceiling.stays_at(base_url);
    if !is_trusted && (scope != Scope::None || chose_itself) {
        return Err(stated.problem("/trust_provider", untrusted(provider, Some(&ceiling))));
    }
    let proxy = allowed.and_then(|allowed| allowed.proxy.as_deref());
    if proxy.is_some_and(|proxy| reachable::proxy(proxy).is_none()) {
        let expected = "must be an http:// or https:// URL with a host, such as \
                        \"http://proxy:3128\"";
        return Err(stated.problem("/ceiling/http/proxy", expected.to_owned()));
    }
    let client = clients.http(HttpClientSource {
        registry: stated.name.clone(),
        reach: ceiling.reach(),
        has_plain: ceiling.has_plain(),
        proxy: proxy.map(str::to_owned),
        authorities: authorities(allowed, stated)?,
    });
    let client = client.map_err(|error| {
        stated.problem("/ceiling/http", format!("no HTTP client can be made: {error}"))
    })?;
    Ok(Some(HttpAccess { ceiling, client }))
}

/// The content of `ca_file`.
fn authorities(
    allowed: Option<&HttpCeilingFile>,
    stated: &Stated<'_>,
) -> Result<Option<Vec<u8>>, Vec<Problem>> {
    let Some(path) = allowed.and_then(|allowed| allowed.ca_file.as_deref()) else {
        return Ok(None);
    };
    let pem = config::authorities(path).map_err(|error| {
        stated.problem("/ceiling/http/ca_file", format!("{} {error}", path.display()))
    })?;
    Ok(Some(pem))
}

/// `ceiling`: what it may send, if that is known.
fn untrusted(provider: &Provider, ceiling: Option<&HttpCeiling>) -> String {
    let endpoints = ceiling.map(|ceiling| {
        let endpoints = ceiling.endpoints().take(8).collect::<Vec<_>>().join(", ");
        format!(", and it may send {endpoints}")
    });
    format!(
        "missing; the provider `{}` issues what the registry returns over HTTP or what it makes \
         itself, and only the provider knows the scope of that; review the provider, then set \
         `trust_provider = true` or run `rise-broker provider lock`; answers then have \
         `enforced_by: provider`{}",
        provider.manifest.name,
        endpoints.unwrap_or_default()
    )
}
