//! `GET /api/v1/registries`: the registries that the caller may use, and where their images live.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::possible_problems;
use super::problem::Failure;
use crate::broker::Broker;
use crate::config::CreateRepositories;
use crate::domain::Scope;

#[derive(Serialize, ToSchema)]
#[schema(as = Registries)]
pub(super) struct ListedRegistries {
    registries: Vec<ListedRegistry>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Registry)]
struct ListedRegistry {
    registry: String,
    registry_url: String,
    /// The image of a project, with `{project}` in it.
    image: String,
    /// The most path components that a project has here.
    project_depth: u8,
    r#type: String,
    /// What a credential opens at least. `none`: callers use their own logins.
    #[schema(value_type = String, pattern = "^(none|repository|namespace|registry)$")]
    scope: Scope,
    /// When the broker creates the repository of a project. `null`: it manages none here.
    #[schema(required, value_type = Option<String>, pattern = "^(never|on-request|on-push)$")]
    creates_repositories: Option<CreateRepositories>,
}

/// The registries that the caller may use, and where their images live.
#[utoipa::path(
    get,
    path = "/api/v1/registries",
    responses(
        (status = 200, description = "The registries", body = ListedRegistries),
        possible_problems::ListRegistries
    ),
    security(("token" = []))
)]
pub(super) async fn list_registries(
    State(broker): State<Broker>,
    Caller(subject): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<ListedRegistries>, Failure> {
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(Failure::InvalidRequest("The query must be empty.".to_owned()));
    }
    let generation = &broker.generation;
    let reachable = generation.rules.reachable(&subject);
    let registries =
        generation.registries.iter().filter(|registry| reachable.contains(&registry.name)).map(
            |registry| ListedRegistry {
                registry: registry.name.to_string(),
                registry_url: registry.pattern.host().to_string(),
                image: registry.pattern.to_string(),
                project_depth: registry.shape.depth,
                r#type: registry.provider.manifest.name.clone(),
                scope: registry.scope,
                creates_repositories: registry.repositories.as_ref().map(|_| registry.creates()),
            },
        );
    Ok(Json(ListedRegistries { registries: registries.collect() }))
}
