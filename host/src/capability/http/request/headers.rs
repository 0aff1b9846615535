//! Headers of a request: which ones a provider may write, and values that hold a secret.

use reqwest::header::{HeaderName, HeaderValue};

use super::NotSent;
use crate::capability::printable;
use crate::capability::secrets::{SecretHandle, SecretOrigin};

/// Headers that the host writes itself, headers that ask for a part of an answer or an encoded one,
/// and headers by which a server would use another method or path than the ceiling has checked.
const FORBIDDEN: [&str; 24] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "if-range",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "via",
];
const FORBIDDEN_PREFIXES: [&str; 2] = ["proxy-", "x-forwarded-"];

pub(super) fn header_name(text: &str) -> Result<HeaderName, NotSent> {
    let shown = printable(text, 64);
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| NotSent::Refused(format!("a header `{shown}`, which is not a valid name")))?;
    // Some servers treat `_` like `-`.
    let plain = name.as_str().replace('_', "-");
    let forbidden = FORBIDDEN.contains(&plain.as_str())
        || FORBIDDEN_PREFIXES.iter().any(|prefix| plain.starts_with(prefix));
    if forbidden {
        return Err(NotSent::Refused(format!("a header `{shown}`, which providers may not write")));
    }
    Ok(name)
}

pub(super) fn secret_value(handle: &SecretHandle, text: &str) -> Result<HeaderValue, NotSent> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
        let text = format!(
            "the secret `{}` has control characters, and a header cannot have them",
            printable(&handle.name, 64)
        );
        if handle.origin == SecretOrigin::Configured {
            NotSent::Settings(text)
        } else {
            NotSent::Failed(text)
        }
    })?;
    value.set_sensitive(true);
    Ok(value)
}
