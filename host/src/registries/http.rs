//! What a registry may ask over HTTP, from its settings.
//!
//! **Invariant:** a registry whose provider hands out what it was answered is there only where the operator trusts the
//! provider.

use serde_json::Value;

use super::Clients;
use super::build::Stated;
use crate::capability::http::HttpAccess;
use crate::capability::http::ceiling::{HttpCeiling, InvalidHttpCeiling};
use crate::config::RegistryConfig;
use crate::config::node::Problem;
use crate::domain::Scope;
use crate::provider::Provider;

/// What a registry answers is as narrow as the provider has asked for it to be, and the host cannot know.
pub(super) fn open(
    provider: &Provider,
    settings: &Value,
    config: &RegistryConfig,
    (scope, is_trusted, clients): (Scope, bool, &Clients),
    stated: &Stated<'_>,
) -> Result<Option<HttpAccess>, Vec<Problem>> {
    let keys = &config.keys;
    let allowed = keys.ceiling.http.as_ref();
    if !provider.imports.contains(&"http") {
        return match allowed {
            Some(_) => Err(stated.problem(
                "/ceiling/http",
                "its provider does not use HTTP; remove this".to_owned(),
            )),
            None => Ok(None),
        };
    }
    let base_url = settings.get("base_url").and_then(Value::as_str);
    let ceiling = HttpCeiling::new(allowed, base_url).map_err(|error| {
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
    let client = clients.http(stated.name, ceiling.reach(), ceiling.has_plain());
    let client = client.map_err(|error| {
        stated.problem("/ceiling/http", format!("no HTTP client can be made: {error}"))
    })?;
    Ok(Some(HttpAccess { ceiling, client }))
}

fn untrusted(provider: &Provider) -> String {
    format!(
        "missing; the provider `{}` hands out what the registry answers it over HTTP, and how narrow that is, nobody but the provider can say: read its code or its source's reputation, then set `trust_provider = true` or lock it by `rise-broker provider lock`; the answers will say `enforced_by: provider`",
        provider.manifest.name
    )
}
