//! A JSON body: bounded in size and time, and of the right type, before it is read.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Failure;

const MAX_BODY: usize = 4 << 10;

pub(super) async fn json<T: DeserializeOwned>(
    request: Request,
    time: Duration,
) -> Result<T, Failure> {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|it| it.to_str().ok())
        .is_some_and(is_json);
    // Nothing is unpacked: what it would become has no bound.
    if !is_json || request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::UnsupportedMediaType);
    }
    let bytes = tokio::time::timeout(time, collect(request))
        .await
        .map_err(|_| Failure::RequestTimeout)??;
    // The position only: the text may be anything.
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::InvalidRequest(format!(
            "The body is not the JSON that is expected here (line {}, column {}).",
            error.line(),
            error.column()
        ))
    })
}

async fn collect(request: Request) -> Result<Bytes, Failure> {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::PayloadTooLarge),
        Err(_) => Err(Failure::InvalidRequest("The body ended early.".to_owned())),
    }
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|it| it.trim().eq_ignore_ascii_case("application/json"))
}
