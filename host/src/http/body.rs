//! A JSON body: its size, its time and its content type are checked before it is parsed.

use std::time::Duration;

use axum::body::{Bytes, HttpBody};
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
        .and_then(|value| value.to_str().ok())
        .is_some_and(is_json);
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        // A parameter that was ignored could have asked for less.
        return Err(Failure::InvalidRequest(
            "Send the parameters in the JSON body; the query must be empty.".to_owned(),
        ));
    }
    // Nothing is decompressed, because the result would have no bound.
    if !is_json || request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::UnsupportedMediaType);
    }
    let bytes = tokio::time::timeout(time, collect(request))
        .await
        .map_err(|_| Failure::RequestTimeout)??;
    // The answer has the position only, because the text may be anything.
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::InvalidRequest(format!(
            "The body is not the expected JSON object (line {}, column {}).",
            error.line(),
            error.column()
        ))
    })
}

/// Rejects a body of a request whose parameters are in its query: it would be ignored.
pub(super) fn must_be_empty(request: &Request) -> Result<(), Failure> {
    if request.body().is_end_stream() {
        return Ok(());
    }
    Err(Failure::InvalidRequest(
        "Send no body with GET: put the parameters into the query, or POST them as a JSON body."
            .to_owned(),
    ))
}

async fn collect(request: Request) -> Result<Bytes, Failure> {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::PayloadTooLarge),
        Err(_) => Err(Failure::InvalidRequest("The body is incomplete.".to_owned())),
    }
}

fn is_json(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}
