//! The failure that each of the broker's statuses becomes. No other file maps statuses.

use serde::Deserialize;

use super::Clock;
use crate::deadline::spoken;
use crate::failure::{Failure, shown};
use crate::patience::{Repeat, Setback};
use crate::token::Token;
use crate::transport::Reply;

/// Bytes. Gateways accept headers of 8 KiB, some of 4 KiB, and answer longer ones in many ways.
const LONG_TOKEN: usize = 4 * 1024 - 512;

/// A problem document (RFC 9457).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    r#type: String,
    detail: String,
    request_id: String,
}

pub(super) fn setback(whom: &str, reply: &Reply, token: &Token, now: u64) -> Setback {
    let problem: Option<Problem> = reply
        .content_type
        .starts_with("application/problem+json")
        .then(|| serde_json::from_slice(&reply.body).ok())
        .flatten();
    let repeat = match reply.status.as_u16() {
        401 | 403 | 409 if problem.is_some() => Repeat::Refused,
        _ if may_pass(reply, problem.as_ref()) => reply.repeat(),
        _ => Repeat::Never,
    };
    let failure = match problem {
        Some(problem) => failure(whom, &problem, reply, token, now),
        None => without_problem(whom, reply.status.as_u16(), token),
    };
    Setback { failure, repeat }
}

/// A 502 of the broker is passing if the registry or cloud may answer soon. A 502 without a problem
/// document comes from a gateway in front of the broker.
fn may_pass(reply: &Reply, problem: Option<&Problem>) -> bool {
    let is_upstream = |problem: &Problem| {
        let slug = problem.r#type.strip_prefix("urn:rise:problem:").unwrap_or_default();
        slug.starts_with("upstream-") && slug != "upstream-denied"
    };
    match reply.status.as_u16() {
        429 | 503 | 504 => true,
        502 => problem.is_none_or(is_upstream),
        _ => false,
    }
}

fn failure(whom: &str, problem: &Problem, reply: &Reply, token: &Token, now: u64) -> Failure {
    // A hostile server may echo the token.
    let detail = match problem.detail.as_str() {
        "" => "no reason given".to_owned(),
        detail if token.secret.is_in(detail) => {
            "its reason contains the token and is not shown".to_owned()
        }
        detail => shown(detail.trim_end_matches('.')),
    };
    let request = if problem.request_id.is_empty() || token.secret.is_in(&problem.request_id) {
        String::new()
    } else {
        format!(" (request {})", shown(&problem.request_id))
    };
    let status = reply.status.as_u16();
    match status {
        401 => Failure::Token(format!(
            "{whom} rejects the token: {}{request}",
            why_rejected(problem, &detail, reply, token, now)
        )),
        403 | 409 => Failure::Denied(format!("{whom} denies the request: {detail}{request}")),
        400 => Failure::Settings(format!("{whom} rejects the request: {detail}{request}")),
        408 | 429 | 503 | 504 => {
            let again = reply
                .retry_after
                .map_or_else(String::new, |seconds| format!("; try again in {}", spoken(seconds)));
            Failure::Unavailable(format!("{whom} cannot answer now: {detail}{again}{request}"))
        }
        500..=599 => {
            Failure::Unavailable(format!("{whom} failed: {detail}; ask its operator{request}"))
        }
        404 if problem.r#type == "urn:rise:problem:credential-not-found" => {
            Failure::Denied(format!("{whom} denies the request: {detail}{request}"))
        }
        404 => unknown_path(whom, &request),
        _ => Failure::Untrusted(format!(
            "{whom} answers {status}, which is not an answer of a broker: {detail}; check \
             RISE_URL and the broker's version{request}"
        )),
    }
}

/// Every broker has the paths that this program asks for.
pub(super) fn unknown_path(whom: &str, request: &str) -> Failure {
    Failure::Untrusted(format!(
        "{whom} has no path of a broker: RISE_URL must name the callers' listener \
         (`server.listen`, not that of operators), and end before /api{request}"
    ))
}

fn without_problem(whom: &str, status: u16, token: &Token) -> Failure {
    match status {
        431 | 494 => too_long(whom, status, "because", token),
        400 | 413 if token.secret.expose().len() > LONG_TOKEN => {
            too_long(whom, status, "probably because", token)
        }
        300..=399 => Failure::Untrusted(format!(
            "{whom} redirects to another address (status {status}), and a token is never sent \
             there: set RISE_URL to the broker itself"
        )),
        407 => Failure::Settings(
            "the proxy of HTTPS_PROXY requires a login: add it to the variable".to_owned(),
        ),
        408 | 429 | 500..=599 => Failure::Unavailable(format!(
            "something in front of {whom} answers {status}: try again, or ask the broker's operator"
        )),
        _ => Failure::Untrusted(format!(
            "{whom} does not answer like a broker (status {status}): check RISE_URL"
        )),
    }
}

fn too_long(whom: &str, status: u16, because: &str, token: &Token) -> Failure {
    Failure::Token(format!(
        "{whom} answers {status}, {because} the headers of the request are too long: the token \
         has {} bytes; get one with fewer claims, for example with fewer groups",
        token.secret.expose().len()
    ))
}

/// The broker does not tell strangers why it rejects a token. The token's claims and the clocks
/// often explain it.
fn why_rejected(problem: &Problem, detail: &str, reply: &Reply, token: &Token, now: u64) -> String {
    let theirs = reply.date.unwrap_or(now);
    let clock = match Clock::compare(now, theirs) {
        Clock::Right => String::new(),
        Clock::Ahead(seconds) => {
            format!("; this machine's clock is {} ahead of the broker's: set it", spoken(seconds))
        }
        Clock::Behind(seconds) => {
            format!("; this machine's clock is {} behind the broker's: set it", spoken(seconds))
        }
    };
    if problem.r#type == "urn:rise:problem:token-replayed" {
        return format!("{detail}; get a new token for each run{clock}");
    }
    let not_before = token.claims.time("nbf").or_else(|| token.claims.time("iat"));
    match (token.claims.time("exp"), not_before) {
        (Some(end), _) if end <= theirs => {
            format!("it expired {} ago: get a new token{clock}", spoken(theirs - end))
        }
        (_, Some(start)) if start > theirs + super::SKEW => format!(
            "it becomes valid in {}: compare the clocks of this machine, the token's issuer and \
             the broker{clock}",
            spoken(start - theirs)
        ),
        _ => format!("{detail}{}{clock}", facts(token)),
    }
}

/// What the token states about itself, which a person can compare with the broker's settings.
fn facts(token: &Token) -> String {
    let claims = &token.claims;
    let mut facts = Vec::new();
    if let Some(issuer) = claims.text("iss") {
        facts.push(format!("its issuer is {}", shown(issuer)));
    }
    let audiences = claims.audiences();
    if !audiences.is_empty() {
        facts.push(format!("its audience is {}", shown(&audiences.join(", "))));
    }
    if let (Some(start), Some(end)) = (claims.time("iat"), claims.time("exp")) {
        facts.push(format!("it is valid for {}", spoken(end.saturating_sub(start))));
    }
    let length = token.secret.expose().len();
    if length > LONG_TOKEN {
        facts.push(format!("it has {length} bytes"));
    }
    if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;
    use ureq::http::StatusCode;
    use zeroize::Zeroizing;

    use super::*;
    use rise_secret::Secret;

    const NOW: u64 = 1_800_000_000;

    fn line(status: u16, slug: &str, claims: &serde_json::Value, theirs: u64) -> (u8, String) {
        let failure = answered(status, slug, claims, theirs).failure;
        let line = failure.line();
        assert!(!line.contains("canary"), "{line}");
        (failure.exit_code(), line)
    }

    fn answered(status: u16, slug: &str, claims: &serde_json::Value, theirs: u64) -> Setback {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        let secret = format!("canary.{payload}.canary");
        let detail = format!("the detail of {slug}");
        let detail = if slug == "echo" { secret.clone() } else { detail };
        let problem = json!({
            "type": format!("urn:rise:problem:{slug}"), "detail": detail, "request_id": "01J"
        });
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: if slug.is_empty() { "text/html" } else { "application/problem+json" }
                .to_owned(),
            retry_after: Some(3),
            date: Some(theirs),
            challenge: String::new(),
            body: Zeroizing::new(problem.to_string().into_bytes()),
        };
        let token = Token::new(Secret::new(secret), "").ok().unwrap();
        setback("the broker at https://b", &reply, &token, NOW)
    }

    #[test]
    fn a_rejection_is_never_repeated() {
        let after = Repeat::After(std::time::Duration::from_secs(3));
        for (status, slug, expected) in [
            (429, "rate-limited", after),
            (503, "overloaded", after),
            (504, "upstream-timeout", after),
            (502, "upstream-unavailable", after),
            (502, "", after),
            (503, "", after),
            (502, "upstream-denied", Repeat::Never),
            (502, "provider-failed", Repeat::Never),
            (500, "internal", Repeat::Never),
            (400, "invalid-request", Repeat::Never),
            (401, "invalid-token", Repeat::Refused),
            (403, "access-denied", Repeat::Refused),
            (409, "conflict", Repeat::Refused),
            // Something in front of the broker.
            (403, "", Repeat::Never),
            (431, "", Repeat::Never),
            (404, "not-found", Repeat::Never),
            (408, "request-timeout", Repeat::Never),
            (413, "too-large", Repeat::Never),
        ] {
            let found = answered(status, slug, &json!({}), NOW).repeat;
            assert_eq!(found, expected, "{status} {slug}");
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let fine = json!({ "exp": NOW + 60, "aud": "elsewhere" });
        let mut lines = Vec::new();
        for (status, slug) in [
            (400, "invalid-request"),
            (401, "invalid-token"),
            (401, "token-replayed"),
            (401, "echo"),
            (403, "access-denied"),
            (404, "not-found"),
            (429, "rate-limited"),
            (500, "internal"),
            (502, "upstream-denied"),
            (503, "overloaded"),
            (301, ""),
            (404, ""),
            (407, ""),
            (431, ""),
            (502, ""),
        ] {
            lines.push(line(status, slug, &fine, NOW));
        }
        lines.push(line(401, "invalid-token", &json!({ "exp": NOW - 720 }), NOW));
        lines.push(line(401, "invalid-token", &json!({ "exp": NOW - 720 }), NOW + 600));
        lines.push(line(401, "invalid-token", &json!({ "exp": NOW + 900, "nbf": NOW }), NOW - 600));
        lines.push(line(401, "invalid-token", &fine, NOW - 600));
        let long = json!({ "iss": "https://git.example.com", "aud": ["a", "b"], "iat": NOW - 60,
            "exp": NOW + 10_740 });
        lines.push(line(401, "invalid-token", &long, NOW));
        let text: Vec<_> = lines.iter().map(|(code, line)| format!("{code} {line}")).collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}
