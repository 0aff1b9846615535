//! What the claims of a token must say, typed strictly.
//!
//! By hand, because `jsonwebtoken`'s own checks skip claims that are missing or of another type, take a list for `iss`,
//! round a fractional `exp`, leave `nbf` out, know no longest lifetime, and ask the system for the time.

use serde_json::Value;

use super::jwt::Reason;
use crate::domain::Claims;

/// How far the issuer's clock and ours may differ, in seconds.
const LEEWAY: i64 = 30;
/// The longest lifetime of a token, in seconds: a day is what Kubernetes gives. Stops a token that is good for years, or
/// until 1e19, from ever being useful to whoever finds it.
pub(super) const LONGEST_LIFETIME: i64 = 24 * 60 * 60;
/// Above it, a number may not be the one that was written: JSON readers keep 53 bits.
const LARGEST_INTEGER: i64 = 1 << 53;
const LONGEST_SUBJECT: usize = 255;
const MOST_AUDIENCES: usize = 8;

pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// What is worth asking before the signature: a token that fails here is not a reason to ask its issuer for keys.
pub(super) fn precheck(claims: &Claims, expected: &Expected<'_>) -> Result<(), Reason> {
    not_expired(integer(claims, "exp")?, expected.now)?;
    audience(claims, expected.audience)
}

/// Everything. The subject's `sub`.
pub(super) fn check(claims: &Claims, expected: &Expected<'_>) -> Result<String, Reason> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err(Reason::Issuer);
    }
    audience(claims, expected.audience)?;
    times(claims, expected.now)?;
    let sub = claims.get("sub").and_then(Value::as_str).filter(|sub| is_subject(sub));
    sub.map(str::to_owned).ok_or(Reason::Subject)
}

pub(super) fn is_subject(text: &str) -> bool {
    (1..=LONGEST_SUBJECT).contains(&text.len()) && !text.contains(char::is_control)
}

fn audience(claims: &Claims, ours: &str) -> Result<(), Reason> {
    let is_ours = match claims.get("aud") {
        Some(Value::String(one)) => one == ours,
        Some(Value::Array(several)) if several.len() <= MOST_AUDIENCES => {
            several.iter().all(Value::is_string) && several.iter().any(|one| one == ours)
        }
        _ => false,
    };
    if is_ours { Ok(()) } else { Err(Reason::Audience) }
}

fn times(claims: &Claims, now: i64) -> Result<(), Reason> {
    let (expires, issued) = (integer(claims, "exp")?, integer(claims, "iat")?);
    not_expired(expires, now)?;
    if issued > now.saturating_add(LEEWAY) {
        return Err(Reason::IssuedInFuture);
    }
    if claims.contains_key("nbf") && integer(claims, "nbf")? > now.saturating_add(LEEWAY) {
        return Err(Reason::NotYetValid);
    }
    let lifetime =
        expires.checked_sub(issued).filter(|lifetime| (1..=LONGEST_LIFETIME).contains(lifetime));
    lifetime.map(|_| ()).ok_or(Reason::Lifetime)
}

fn not_expired(expires: i64, now: i64) -> Result<(), Reason> {
    if now < expires.saturating_add(LEEWAY) { Ok(()) } else { Err(Reason::Expired) }
}

fn integer(claims: &Claims, name: &str) -> Result<i64, Reason> {
    let value = claims.get(name).and_then(Value::as_i64);
    value.filter(|value| (0..=LARGEST_INTEGER).contains(value)).ok_or(Reason::Times)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn verdict(name: &str, value: Option<Value>) -> Result<String, Reason> {
        let mut claims =
            json!({ "iss": "i", "aud": "us", "sub": "s", "exp": NOW + 300, "iat": NOW - 10 })
                .as_object()
                .unwrap()
                .clone();
        match value {
            Some(value) => claims.insert(name.to_owned(), value),
            None => claims.remove(name),
        };
        check(&claims, &Expected { issuer: "i", audience: "us", now: NOW })
    }

    #[test]
    fn each_claim_is_of_one_type_and_within_its_bounds() {
        let missing = None;
        for (name, value, reason) in [
            ("iss", Some(json!(["i"])), Reason::Issuer),
            ("iss", Some(json!("j")), Reason::Issuer),
            ("iss", missing.clone(), Reason::Issuer),
            ("aud", missing.clone(), Reason::Audience),
            ("aud", Some(json!("them")), Reason::Audience),
            ("aud", Some(json!("us ")), Reason::Audience),
            ("aud", Some(json!("US")), Reason::Audience),
            ("aud", Some(json!(1)), Reason::Audience),
            ("aud", Some(json!(null)), Reason::Audience),
            ("aud", Some(json!({ "us": 1 })), Reason::Audience),
            ("aud", Some(json!([])), Reason::Audience),
            ("aud", Some(json!(["them"])), Reason::Audience),
            ("aud", Some(json!(["us", 1])), Reason::Audience),
            ("aud", Some(json!([["us"]])), Reason::Audience),
            ("aud", Some(json!(["us", "2", "3", "4", "5", "6", "7", "8", "9"])), Reason::Audience),
            ("exp", missing.clone(), Reason::Times),
            ("exp", Some(json!((NOW + 300).to_string())), Reason::Times),
            ("exp", Some(json!(1_700_000_300.0)), Reason::Times),
            ("exp", Some(json!(1_700_000_300.5)), Reason::Times),
            ("exp", Some(json!(1e19)), Reason::Times),
            ("exp", Some(json!(u64::MAX)), Reason::Times),
            ("exp", Some(json!(i64::MAX)), Reason::Times),
            ("exp", Some(json!(-1)), Reason::Times),
            ("exp", Some(json!(true)), Reason::Times),
            ("exp", Some(json!(null)), Reason::Times),
            ("exp", Some(json!([NOW + 300])), Reason::Times),
            ("exp", Some(json!(NOW - 30)), Reason::Expired),
            ("exp", Some(json!(0)), Reason::Expired),
            ("exp", Some(json!(NOW - 10)), Reason::Lifetime),
            ("exp", Some(json!(NOW - 20)), Reason::Lifetime),
            ("exp", Some(json!(NOW - 9 + LONGEST_LIFETIME)), Reason::Lifetime),
            ("exp", Some(json!(LARGEST_INTEGER)), Reason::Lifetime),
            ("iat", missing.clone(), Reason::Times),
            ("iat", Some(json!("x")), Reason::Times),
            ("iat", Some(json!(1.5)), Reason::Times),
            ("iat", Some(json!(NOW + 31)), Reason::IssuedInFuture),
            ("nbf", Some(json!(NOW + 31)), Reason::NotYetValid),
            ("nbf", Some(json!("0")), Reason::Times),
            ("nbf", Some(json!(null)), Reason::Times),
            ("sub", missing, Reason::Subject),
            ("sub", Some(json!("")), Reason::Subject),
            ("sub", Some(json!(1)), Reason::Subject),
            ("sub", Some(json!(["s"])), Reason::Subject),
            ("sub", Some(json!("a\nb")), Reason::Subject),
            ("sub", Some(json!("a\u{0}")), Reason::Subject),
            ("sub", Some(json!("a\u{85}")), Reason::Subject),
            ("sub", Some(json!("x".repeat(256))), Reason::Subject),
        ] {
            assert_eq!(verdict(name, value.clone()), Err(reason), "{name} {value:?}");
        }
    }

    #[test]
    fn what_real_issuers_send_is_taken() {
        for (name, value) in [
            ("aud", json!(["them", "us"])),
            ("exp", json!(NOW - 5)),
            ("exp", json!(NOW - 10 + LONGEST_LIFETIME)),
            ("iat", json!(NOW + 30)),
            ("nbf", json!(NOW + 30)),
            ("nbf", json!(0)),
            ("sub", json!("repo:acme/my-app:ref:refs/heads/main")),
            ("sub", json!("Zoë")),
            ("sub", json!("x".repeat(255))),
        ] {
            assert!(verdict(name, Some(value.clone())).is_ok(), "{name} {value}");
        }
    }
}
