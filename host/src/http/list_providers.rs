//! `GET /api/v1/providers` on the admin listener: the loaded providers and their capabilities.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::broker::Broker;
use crate::findings::RefusedFile;

#[derive(Serialize)]
pub(super) struct ListedProviders {
    providers: Vec<ListedProvider>,
    /// Files that were not loaded, and why.
    refused: Vec<RefusedFile>,
}

#[derive(Serialize)]
struct ListedProvider {
    name: String,
    aliases: Vec<String>,
    version: String,
    description: String,
    sha256: String,
    file: String,
    /// Whether the file was deleted.
    is_missing: bool,
    /// Whether `providers.lock` contains this provider.
    is_locked: bool,
    /// The capabilities that the provider imports, and so needs.
    capabilities: Vec<&'static str>,
    /// Whether the provider deletes the credentials that it makes, when the broker says so.
    ends_credentials: bool,
    /// The registries that use the provider.
    registries: Vec<String>,
}

pub(super) async fn list_providers(State(broker): State<Broker>) -> Json<ListedProviders> {
    let (found, generation) = (broker.process.findings.last(), &broker.generation);
    let providers = generation.catalog.iter().map(|provider| ListedProvider {
        name: provider.manifest.name.clone(),
        aliases: provider.manifest.aliases.clone(),
        version: provider.manifest.version.clone(),
        description: provider.manifest.description.clone(),
        sha256: provider.digest.to_string(),
        is_missing: found.missing_files.contains(&provider.file.display().to_string()),
        is_locked: generation.catalog.is_locked(provider),
        file: provider.file.display().to_string(),
        capabilities: provider.imports.clone(),
        ends_credentials: provider.ends_credentials(),
        registries: generation
            .registries
            .iter()
            .filter(|registry| Arc::ptr_eq(&registry.provider, provider))
            .map(|registry| registry.name.to_string())
            .collect(),
    });
    Json(ListedProviders { providers: providers.collect(), refused: found.providers.clone() })
}
