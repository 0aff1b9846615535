//! The AWS ceiling and client of a registry, from its settings.

use std::sync::Arc;

use super::Clients;
use super::build::Stated;
use super::secrets::Secrets;
use crate::capability::aws::AwsAccess;
use crate::capability::aws::ceiling::{AwsCeiling, AwsSettings, Switches};
use crate::config::RegistryConfig;
use crate::config::node::Problem;
use crate::domain::Scope;

pub(super) async fn open(
    settings: &AwsSettings,
    config: &RegistryConfig,
    secrets: &Secrets,
    stated: &Stated<'_>,
    clients: &Clients,
) -> Result<AwsAccess, Vec<Problem>> {
    if settings.region.is_empty() {
        return Err(stated
            .problem("/region", "missing; its provider uses AWS, so name the region".to_owned()));
    }
    // The provider has checked its form, but only the host knows what the SDK accepts.
    if let Some(Err(error)) = settings.endpoint_url.as_deref().map(url::Url::parse) {
        return Err(stated.problem("/endpoint_url", format!("not a URL: {error}")));
    }
    let keys = &config.keys;
    let shape = config.shape(settings.child_repositories);
    let switches = Switches {
        unscoped: keys.accept_scope.map(Scope::from) == Some(Scope::Registry),
        source_identity: keys.source_identity,
        session_tags: keys.session_tags,
    };
    let allowed = keys.ceiling.aws.as_ref();
    let ceiling = AwsCeiling::new(settings, allowed, switches, shape).map_err(|error| {
        let pointer = if allowed.is_some() { "/ceiling/aws" } else { "/repo_prefix" };
        stated.problem(pointer, error.to_string())
    })?;
    let pair = match (secrets.get("access_key_id"), secrets.get("secret_access_key")) {
        (Some(id), Some(secret)) => Some((Arc::clone(id), Arc::clone(secret))),
        (None, None) => None,
        (Some(_), None) => {
            return Err(stated.problem(
                "/secret_access_key",
                "missing; it belongs to `access_key_id`".to_owned(),
            ));
        }
        (None, Some(_)) => {
            return Err(stated.problem(
                "/access_key_id",
                "missing; it belongs to `secret_access_key`".to_owned(),
            ));
        }
    };
    Ok(AwsAccess { ceiling, client: clients.aws(settings.clone(), pair).await })
}

/// Rejects AWS settings of a registry whose provider does not use AWS: they are a mistake.
pub(super) fn must_not_be_stated(
    config: &RegistryConfig,
    stated: &Stated<'_>,
) -> Result<(), Vec<Problem>> {
    let keys = &config.keys;
    let of_aws = [
        ("/ceiling/aws", keys.ceiling.aws.is_some()),
        ("/source_identity", keys.source_identity),
        ("/session_tags", keys.session_tags),
    ];
    match of_aws.into_iter().find(|(_, is_stated)| *is_stated) {
        Some((pointer, _)) => {
            Err(stated.problem(pointer, "its provider does not use AWS; remove this".to_owned()))
        }
        None => Ok(()),
    }
}
