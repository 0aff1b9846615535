//! `[registries.NAME.repositories]` of a registry, checked against its provider and its AWS.

use std::sync::Arc;

use super::build::Stated;
use crate::capability::aws::AwsAccess;
use crate::capability::aws::repository::RepositoryPlace;
use crate::capability::aws::settings::AwsSettings;
use crate::capability::ecr_repositories::{RepositoryAccess, WantedRepository};
use crate::config::RegistryConfig;
use crate::config::node::Problem;
use crate::domain::location::LocationPattern;
use crate::provider::Provider;

/// Returns what its provider may do with repositories; nothing without the table.
pub(super) fn open(
    provider: &Provider,
    settings: &AwsSettings,
    config: &RegistryConfig,
    aws: Option<&AwsAccess>,
    stated: &Stated<'_>,
) -> Result<Option<RepositoryAccess>, Vec<Problem>> {
    let Some(file) = &config.keys.repositories else { return Ok(None) };
    if provider.guest.repositories.is_none() {
        let message = "its provider manages no repositories; remove this";
        return Err(stated.problem("/repositories", message.to_owned()));
    }
    let Some(aws) = aws.filter(|_| provider.imports.contains(&"ecr-repositories")) else {
        return Ok(None);
    };
    if settings.web_identity {
        let message = "repositories are managed by the role `role_arn`, and with `web_identity` \
            the broker has only the push role; remove one of the two";
        return Err(stated.problem("/repositories", message.to_owned()));
    }
    if settings.is_public() {
        let message = "the broker does not manage repositories of ECR Public; remove this, or \
            `public_alias`";
        return Err(stated.problem("/repositories", message.to_owned()));
    }
    if settings.child_repositories {
        let message = "`child_repositories`: the broker creates and retires the repository of a \
            project, and not those below it; remove one of the two";
        return Err(stated.problem("/repositories", message.to_owned()));
    }
    let wanted = WantedRepository::new(file, settings.auto_remove)
        .map_err(|(pointer, message)| stated.problem(&pointer, message))?;
    let place = RepositoryPlace {
        partition: settings.partition().to_owned(),
        region: settings.region.clone(),
        account_id: settings.account_id.clone(),
        repository: String::new(),
    };
    Ok(Some(RepositoryAccess { client: Arc::clone(&aws.client), place, wanted: Arc::new(wanted) }))
}

/// Checks that the repositories of the projects are those that the broker would create: at the
/// registry of these settings, below its prefix. `locate` is the provider's, and may say anything.
pub(super) fn check_place(
    managed: bool,
    pattern: &LocationPattern,
    settings: &AwsSettings,
    stated: &Stated<'_>,
) -> Result<(), Vec<Problem>> {
    let (host, prefix) = (settings.registry_host(), &settings.repo_prefix);
    if !managed || (pattern.host().as_str() == host && pattern.prefix() == *prefix) {
        return Ok(());
    }
    let message = format!(
        "the broker manages repositories at {host}/{prefix}, and the images of this registry are \
         at {}/{}; remove this, or `location`",
        pattern.host().as_str(),
        pattern.prefix()
    );
    Err(stated.problem("/repositories", message))
}

/// Warns that `auto_remove` does nothing where the broker manages no repositories.
pub(super) fn warnings(
    settings: &AwsSettings,
    config: &RegistryConfig,
    stated: &Stated<'_>,
) -> Vec<Problem> {
    if !settings.auto_remove || config.keys.repositories.is_some() {
        return Vec::new();
    }
    let message = format!(
        "`auto_remove = true` has no effect: the broker deletes only repositories that it manages, \
         and it manages none of this registry without the table [registries.{}.repositories]; add \
         it, or remove this",
        stated.name
    );
    stated.problem("/auto_remove", message)
}
