//! A JSON body: its size, its time and its content type are checked before it is parsed.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::problem::Failure;

const MAX_BODY: usize = 4 << 10;
/// A form has a password, which may be a long token.
const MAX_FORM: usize = 48 << 10;

/// A member of a body, and what its value must be.
pub(super) type Member = (&'static str, &'static str);

/// `members` are all members of `T`, for messages.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request,
    time: Duration,
    members: &[Member],
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
    let bytes = collect_in_time(request, MAX_BODY, time).await?;
    serde_json::from_slice(&bytes)
        .map_err(|_| Failure::InvalidRequest(what_is_wrong::<T>(&bytes, members)))
}

/// The text of a form. The query must be empty, or it could say something else.
pub(super) async fn form(request: Request, time: Duration) -> Result<Zeroizing<String>, Failure> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let is_form =
        content_type.is_some_and(|text| is_type(text, "application/x-www-form-urlencoded"));
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        let detail = "Send the parameters in the form; the query must be empty.";
        return Err(Failure::InvalidRequest(detail.to_owned()));
    }
    if !is_form || request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Failure::NotAForm);
    }
    let bytes = collect_in_time(request, MAX_FORM, time).await?;
    let text = String::from_utf8(bytes.to_vec());
    let text = text.map_err(|_| Failure::InvalidRequest("The form is not text.".to_owned()))?;
    Ok(Zeroizing::new(text))
}

/// Reads the body of a form, whose content [`form`] checks.
pub(super) async fn read_form(request: Request, time: Duration) -> Result<Request, Failure> {
    let (head, body) = request.into_parts();
    let bytes = collect_in_time(Request::new(body), MAX_FORM, time).await?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

/// Names the wrong member. Values are not quoted, because they may be anything.
fn what_is_wrong<T: DeserializeOwned>(bytes: &[u8], members: &[Member]) -> String {
    let names: Vec<_> = members.iter().map(|(name, _)| format!("`{name}`")).collect();
    let names = names.join(", ");
    let whole: Map<String, Value> = match serde_json::from_slice(bytes) {
        Ok(whole) => whole,
        Err(error) => {
            return format!(
                "The body is not a JSON object (line {}, column {}). Its members may be {names}.",
                error.line(),
                error.column()
            );
        }
    };
    let is_unknown = |name: &&String| members.iter().all(|(known, _)| known != name);
    if let Some(unknown) = whole.keys().find(is_unknown) {
        return format!("The body has an unknown member{}. It may have {names}.", named(unknown));
    }
    let is_wrong = |name: &str| {
        let mut others = whole.clone();
        others.remove(name).is_some() && serde_json::from_value::<T>(others.into()).is_ok()
    };
    if serde_json::from_slice::<Value>(bytes)
        .is_ok_and(|all| serde_json::from_value::<T>(all).is_ok())
    {
        return format!("The body has a member twice. It may have {names}, each once.");
    }
    if let Some((name, expected)) = members.iter().find(|(name, _)| is_wrong(name)) {
        return format!("`{name}` must be {expected}.");
    }
    let all: Vec<_> =
        members.iter().map(|(name, expected)| format!("`{name}`: {expected}")).collect();
    format!("Several members have values of a wrong type. Expected: {}.", all.join("; "))
}

/// A name of the caller's between backticks after a space, or nothing if it could be harmful in
/// logs and terminals.
pub(super) fn named(name: &str) -> String {
    let is_harmless = (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_harmless { format!(" `{name}`") } else { String::new() }
}

/// Rejects a body of a request whose parameters are in its query: it would be ignored. Some clients
/// announce a body and send none.
pub(super) async fn must_be_empty(request: &mut Request, time: Duration) -> Result<(), Failure> {
    let collecting = Limited::new(request.body_mut(), 0).collect();
    let is_empty = tokio::time::timeout(time, collecting).await;
    if is_empty.is_ok_and(|collected| collected.is_ok()) {
        return Ok(());
    }
    Err(Failure::InvalidRequest(
        "Send no body with this method: put the parameters into the query.".to_owned(),
    ))
}

async fn collect_in_time(request: Request, most: usize, time: Duration) -> Result<Bytes, Failure> {
    let collected = tokio::time::timeout(time, collect(request, most)).await;
    collected.map_err(|_| Failure::RequestTimeout)?
}

async fn collect(request: Request, most: usize) -> Result<Bytes, Failure> {
    match Limited::new(request.into_body(), most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::PayloadTooLarge { most }),
        Err(_) => Err(Failure::InvalidRequest("The body is incomplete.".to_owned())),
    }
}

fn is_json(content_type: &str) -> bool {
    is_type(content_type, "application/json")
}

fn is_type(content_type: &str, expected: &str) -> bool {
    let media_type = content_type.split(';').next();
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(expected))
}
