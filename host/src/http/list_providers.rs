//! `GET /api/v1/providers` on the admin listener: what is loaded, and what it asks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::broker::Broker;
use crate::findings::RefusedFile;

#[derive(Serialize)]
pub(super) struct Providers {
    providers: Vec<Provider>,
    /// Files that are not served, and why.
    refused: Vec<RefusedFile>,
}

#[derive(Serialize)]
struct Provider {
    name: String,
    aliases: Vec<String>,
    version: String,
    description: String,
    sha256: String,
    file: String,
    /// Whether the file is gone.
    is_missing: bool,
    /// Whether `providers.lock` has it.
    is_locked: bool,
    /// What it imports, and so asks for.
    capabilities: Vec<&'static str>,
    /// Those that use it.
    registries: Vec<String>,
}

pub(super) async fn list_providers(State(broker): State<Broker>) -> Json<Providers> {
    let (found, generation) = (broker.process.findings.last(), &broker.generation);
    let providers = generation.catalog.iter().map(|provider| Provider {
        name: provider.manifest.name.clone(),
        aliases: provider.manifest.aliases.clone(),
        version: provider.manifest.version.clone(),
        description: provider.manifest.description.clone(),
        sha256: provider.digest.to_string(),
        is_missing: found.missing_files.contains(&provider.file.display().to_string()),
        is_locked: generation.catalog.is_locked(provider),
        file: provider.file.display().to_string(),
        capabilities: provider.imports.clone(),
        registries: generation
            .registries
            .iter()
            .filter(|it| Arc::ptr_eq(&it.provider, provider))
            .map(|it| it.name.to_string())
            .collect(),
    });
    Json(Providers { providers: providers.collect(), refused: found.providers.clone() })
}
