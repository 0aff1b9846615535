//! The answer of a registry, as a provider may see it.
//!
//! **Invariant:** an answer with a configured secret in a header or in the body never becomes a
//! [`Response`]: [`Response::read`] refuses it. A secret that `take_secret` removed appears nowhere
//! in the answer any more.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{HttpAnswer, echo};
use crate::capability::issued::IssuedSecrets;
use crate::capability::wit::rise::registry::types::Error;
use crate::capability::{Capabilities, MAX_SECRET};
use crate::domain::Secret;

/// The longest pause that a caller is asked for, in seconds.
const LONGEST_PAUSE: i64 = 3600;

/// An answer that a provider can read.
pub struct Response {
    /// Method, host and path of the request, for messages.
    asked: String,
    status: u16,
    headers: Vec<(String, Zeroizing<String>)>,
    body: Zeroizing<String>,
    /// The pause that the registry asks for, in seconds.
    pause: Option<u32>,
}

/// An answer that would show a provider a secret that it may only pass on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} sent {secret} back, so its answer is withheld")]
pub(super) struct Echoed {
    asked: String,
    secret: &'static str,
}

impl Response {
    pub(super) fn read(
        answer: HttpAnswer,
        asked: String,
        now: u64,
        (capabilities, issued): (&Capabilities, &IssuedSecrets),
    ) -> Result<Self, Echoed> {
        let HttpAnswer { status, headers, body } = answer;
        let text = |bytes: &[u8]| Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        let shown = |name: &str| !matches!(name, "set-cookie" | "set-cookie2");
        let headers: Vec<_> = headers
            .iter()
            .filter(|(name, _)| shown(name.as_str()))
            .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
            .collect();
        let body = text(&body);
        let is_in = |holds: &dyn Fn(&str) -> bool| {
            holds(&body) || headers.iter().any(|(name, value)| holds(name) || holds(value))
        };
        if is_in(&|text| echo::reveals(capabilities, text)) {
            return Err(Echoed { asked, secret: "a configured secret" });
        }
        let private = issued.private(|secret| is_in(&|text| echo::holds(&[secret], text)));
        if let Some(secret) = private {
            return Err(Echoed { asked, secret });
        }
        let pause = headers.iter().find(|(name, _)| name == "retry-after");
        let pause = pause.and_then(|(_, value)| pause_in(value, now));
        Ok(Self { asked, status, headers, body, pause })
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn success(&self) -> Result<(), Error> {
        let text = format!("{} answered {}", self.asked, self.status);
        match (self.status, self.pause) {
            (200..=299, _) => Ok(()),
            (401 | 403 | 407, _) => Err(Error::Denied(text)),
            (404 | 410, _) => Err(Error::NotFound(text)),
            (429, pause) | (503, pause @ Some(_)) => Err(Error::Throttled(pause)),
            (408 | 425 | 500..=599, _) => Err(Error::Unavailable(text)),
            (300..=399, _) => Err(Error::Failed(format!("{text}, and redirects are not followed"))),
            _ => Err(Error::Failed(text)),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str().to_owned())
    }

    pub(super) fn body(&self) -> &str {
        &self.body
    }

    pub(super) fn text(&self) -> String {
        self.body.as_str().to_owned()
    }

    /// Removes a secret. Returns `None` if the value is not a string, is empty, or is longer than a
    /// secret may be.
    pub(super) fn take_secret(&mut self, pointer: &str) -> Option<Secret> {
        let json = serde_json::from_str::<Value>(&self.body).ok();
        let string = json.as_ref().and_then(|json| json.pointer(pointer)).and_then(Value::as_str);
        let whole = || pointer.is_empty().then(|| self.body.trim_end_matches(['\r', '\n']));
        let secret =
            string.or_else(whole).filter(|secret| (1..=MAX_SECRET).contains(&secret.len()))?;
        let secret = Zeroizing::new(secret.to_owned());
        self.headers.retain(|(_, value)| !holds(value, &secret));
        let mut json = json.filter(|_| !pointer.is_empty()).unwrap_or(Value::Null);
        remove(&mut json, &secret);
        self.body = Zeroizing::new(json.to_string());
        Some(Secret::new(secret.as_str().to_owned()))
    }
}

/// Whether `text` has the secret, also as a part of other text. A short secret would appear
/// everywhere, so it counts only as a whole.
fn holds(text: &str, secret: &str) -> bool {
    text == secret || (secret.len() >= 4 && text.contains(secret))
}

fn remove(value: &mut Value, secret: &str) {
    match value {
        Value::String(text) if holds(text, secret) => {
            drop(Zeroizing::new(std::mem::take(text)));
            *value = Value::Null;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, secret)),
        Value::Object(members) => {
            members.retain(|key, _| !holds(key, secret));
            members.values_mut().for_each(|member| remove(member, secret));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reads `Retry-After`, which has seconds or a date.
fn pause_in(text: &str, now: u64) -> Option<u32> {
    let until = |at: Timestamp| at.as_second().saturating_sub(i64::try_from(now).unwrap_or(0));
    let date = || rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(until);
    let seconds = text.trim().parse::<u32>().ok().map(i64::from).or_else(date)?;
    u32::try_from(seconds.clamp(0, LONGEST_PAUSE)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    /// 21 November 2026, 10:00:00 UTC.
    const NOW: u64 = 1_795_255_200;
    const ASSERTION: &str = "e30.e30.c2lnbmVk";

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        HttpAnswer { status, headers, body: Zeroizing::new(body.as_bytes().to_vec()) }
    }

    fn read(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Response, Echoed> {
        let secret = Arc::new(Secret::new("configured".to_owned()));
        let secrets = [("token".to_owned(), secret)].into();
        let capabilities = Capabilities { secrets, ..Capabilities::none() };
        let mut issued = IssuedSecrets::default();
        issued.add_private(&Arc::new(Secret::new(ASSERTION.to_owned())), "an assertion");
        let known = (&capabilities, &issued);
        Response::read(answer(status, headers, body), "POST r.io".into(), NOW, known)
    }

    #[test]
    fn statuses_are_errors_by_what_happens_next() {
        let failure = |status, pause: Option<&str>| {
            let headers: Vec<_> = pause.iter().map(|it| ("retry-after", *it)).collect();
            let error = read(status, &headers, "").unwrap().success().err();
            error.map(|error| format!("{error:?}"))
        };
        for (status, pause, expected) in [
            (200, None, None),
            (204, None, None),
            (401, None, Some("Denied")),
            (403, Some("1"), Some("Denied")),
            (404, None, Some("NotFound")),
            (429, None, Some("Throttled(None)")),
            (429, Some("9"), Some("Throttled(Some(9))")),
            (429, Some("soon"), Some("Throttled(None)")),
            (429, Some("4294967296"), Some("Throttled(None)")),
            (429, Some("99999"), Some("Throttled(Some(3600))")),
            (429, Some("Sat, 21 Nov 2026 10:00:30 GMT"), Some("Throttled(Some(30))")),
            (429, Some("Sat, 21 Nov 2026 09:00:00 GMT"), Some("Throttled(Some(0))")),
            (503, Some("5"), Some("Throttled(Some(5))")),
            (503, None, Some("Unavailable")),
            (500, None, Some("Unavailable")),
            (302, None, Some("redirects are not followed")),
            (400, None, Some("Failed")),
            (101, None, Some("Failed")),
        ] {
            let found = failure(status, pause);
            let is_expected = match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => found.contains(expected),
                _ => false,
            };
            assert!(is_expected, "{status} {pause:?}: {found:?}");
        }
    }

    #[test]
    fn what_was_taken_is_nowhere_any_more() {
        let body = r#"{"token":"t0p-s3cret","also":["t0p-s3cret"],"in":"Bearer t0p-s3cret",
            "t0p-s3cret":1,"n":1,"s":"x"}"#;
        let mut response =
            read(200, &[("x-token", "Bearer t0p-s3cret"), ("x-id", "7")], body).unwrap();
        assert!(response.take_secret("/n").is_none());
        assert!(response.take_secret("/nothing").is_none());
        assert_eq!(response.take_secret("/token").unwrap().expose(), "t0p-s3cret");
        assert_eq!(response.text(), r#"{"also":[null],"in":null,"n":1,"s":"x","token":null}"#);
        assert_eq!(response.header("X-Token"), None);
        assert_eq!(response.header("X-ID").as_deref(), Some("7"));
        assert!(response.take_secret("/token").is_none());
        assert_eq!(response.take_secret("/s").unwrap().expose(), "x");
        assert!(response.text().contains("\"also\""));
    }

    #[test]
    fn a_whole_body_can_be_a_secret() {
        for (body, secret) in
            [("plain\r\n", "plain"), ("\"quoted\"", "quoted"), ("{\"a\":1}", "{\"a\":1}")]
        {
            let mut response = read(200, &[], body).unwrap();
            assert_eq!(response.take_secret("").unwrap().expose(), secret);
            assert_eq!(response.text(), "null");
        }
        assert!(read(200, &[], "").unwrap().take_secret("").is_none());
        assert!(read(200, &[], &"x".repeat(MAX_SECRET + 1)).unwrap().take_secret("").is_none());
    }

    #[test]
    fn an_answer_with_a_configured_secret_is_no_answer() {
        for (headers, body) in [
            (&[("x-seen", "Bearer configured")][..], "{}"),
            (&[], r#"{"you sent": "configured"}"#),
            (&[], r#"{"you sent": "\u0063onfigured"}"#),
            (&[], "configured"),
            (&[], r#"{"got":"assertion=e30.e30.c2lnbmVk&x"}"#),
            (&[("x-seen", ASSERTION)], ""),
        ] {
            let error = read(200, headers, body).err().expect(body).to_string();
            assert!(error.contains("POST r.io") && !error.contains("configured\""), "{error}");
        }
    }

    #[test]
    fn cookies_are_not_shown() {
        let response = read(200, &[("set-cookie", "session=1")], "").unwrap();
        assert_eq!(response.header("Set-Cookie"), None);
    }
}
