//! `GET /.well-known/jwks.json`: the public keys of the tokens that this broker signs.

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use super::possible_problems;
use super::problem::Failure;
use crate::broker::Broker;

/// A key is published long before it signs, so that an old copy has it.
pub(super) const CACHEABLE: (HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=300");

/// The keys: the current, the next and the previous one. No token is needed.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    responses(
        (
            status = 200,
            description = "A JSON Web Key Set",
            body = Object,
            content_type = "application/jwk-set+json"
        ),
        possible_problems::OfSigning
    )
)]
pub(super) async fn jwks(State(broker): State<Broker>) -> Result<impl IntoResponse, Failure> {
    let signing = broker.generation.signing.as_ref().ok_or(Failure::NotFound)?;
    let headers = [CACHEABLE, (header::CONTENT_TYPE, "application/jwk-set+json")];
    Ok((headers, signing.jwks().to_string()))
}
