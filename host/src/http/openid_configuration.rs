//! `GET /.well-known/openid-configuration`: how a cloud that trusts this broker finds its keys.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::jwks::CACHEABLE;
use super::possible_problems;
use super::problem::Failure;
use crate::broker::Broker;

/// Discovery, as in `OpenID` Connect, of the tokens that this broker signs. No token is needed.
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    responses(
        (status = 200, description = "The issuer and where its keys are", body = Object),
        possible_problems::OfSigning
    )
)]
pub(super) async fn openid_configuration(
    State(broker): State<Broker>,
) -> Result<impl IntoResponse, Failure> {
    let signing = broker.generation.signing.as_ref().ok_or(Failure::NotFound)?;
    let headers = [CACHEABLE, (header::CONTENT_TYPE, "application/json")];
    Ok((headers, signing.discovery().to_string()))
}
