//! `GET /api/v1/registries`: the registries that the caller's rules reach, and where their images live.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::possible_problems;
use super::problem::Failure;
use crate::broker::Broker;

#[derive(Serialize, ToSchema)]
pub(super) struct Registries {
    registries: Vec<Registry>,
}

#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON are the API's")]
struct Registry {
    registry: String,
    registry_url: String,
    /// With `{project}` in it.
    image: String,
    r#type: String,
}

/// The registries that the caller's rules reach, and where their images live.
#[utoipa::path(
    get,
    path = "/api/v1/registries",
    responses((status = 200, description = "The registries", body = Registries), possible_problems::ListRegistries),
    security(("token" = []))
)]
pub(super) async fn list_registries(
    State(broker): State<Broker>,
    Caller(subject): Caller,
) -> Result<Json<Registries>, Failure> {
    let generation = &broker.generation;
    let reachable = generation.rules.reachable(&subject);
    let registries =
        generation.registries.iter().filter(|it| reachable.contains(&it.name)).map(|it| Registry {
            registry: it.name.to_string(),
            registry_url: it.pattern.host().to_string(),
            image: it.pattern.to_string(),
            r#type: it.provider.manifest.name.clone(),
        });
    Ok(Json(Registries { registries: registries.collect() }))
}
