//! Why Google denied a request: the reason that Google gives, and what the operator can do.

use rise_provider::Error;
use rise_provider::http::Response;
use serde::Deserialize;

/// The longest reason that a message repeats, in characters.
const LONGEST_REASON: usize = 200;

/// An answer of Google that is no success: as in RFC 6749, or as all its APIs answer.
#[derive(Deserialize)]
struct Refusal {
    error: Reason,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reason {
    Code(String),
    Message { message: String },
}

/// Adds the reason of Google and the remedy. An answer with a reason is a denial, also with status
/// 400. So is a 404: `NotFound` would report a missing repository.
pub(crate) fn explained(
    error: Error,
    response: &Response,
    remedy: impl Fn(&str) -> Option<String>,
) -> Error {
    let reason = response.json().ok().map(reason);
    let text = match (error, &reason) {
        (Error::Denied(text) | Error::NotFound(text), _) | (Error::Failed(text), Some(_)) => text,
        (error, _) => return error,
    };
    let reason = reason.unwrap_or_default();
    let remedy = remedy(&reason).map(|remedy| format!("({remedy})"));
    let parts = [Some(reason), remedy].into_iter().flatten().filter(|part| !part.is_empty());
    let told = parts.collect::<Vec<_>>().join(" ");
    Error::Denied(if told.is_empty() { text } else { format!("{text}: {told}") })
}

fn reason(refusal: Refusal) -> String {
    let reason = match refusal.error {
        Reason::Code(code) => format!("{code} {}", refusal.error_description),
        Reason::Message { message } => message,
    };
    let reason = reason.chars().take(LONGEST_REASON).collect::<String>();
    reason.replace(char::is_control, " ").trim_end().to_owned()
}
