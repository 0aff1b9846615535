//! What the claims of a token must contain, with strict types.
//!
//! By hand, because JWT libraries are not strict enough: `jsonwebtoken`, for one, skips claims that
//! are missing or of another type, accepts a list for `iss`, rounds a fractional `exp`, ignores
//! `nbf`, has no longest lifetime, and asks the system for the time.

use serde_json::Value;

use super::bounds::{LEEWAY, LONGEST_TOKEN_ID, MOST_AUDIENCES, is_subject};
use super::reason::Reason;
use crate::domain::{ClaimPath, Claims};

/// JSON readers keep 53 bits: a larger number may not be the one that was written.
const LARGEST_INTEGER: i64 = 1 << 53;

pub(super) fn issuer(claims: &Claims, configured: &str) -> Result<(), Reason> {
    let same = claims.get("iss").and_then(Value::as_str) == Some(configured);
    if same { Ok(()) } else { Err(Reason::Issuer) }
}

pub(super) fn subject(claims: &Claims) -> Result<&str, Reason> {
    claims.get("sub").and_then(Value::as_str).filter(|sub| is_subject(sub)).ok_or(Reason::Subject)
}

pub(super) fn audience(claims: &Claims, ours: &str) -> Result<(), Reason> {
    let is_ours = match claims.get("aud") {
        Some(Value::String(one)) => one == ours,
        Some(Value::Array(several)) if several.len() > MOST_AUDIENCES => {
            return Err(Reason::TooManyAudiences);
        }
        Some(Value::Array(several)) => {
            several.iter().all(Value::is_string) && several.iter().any(|one| one == ours)
        }
        _ => false,
    };
    if is_ours { Ok(()) } else { Err(Reason::Audience) }
}

pub(super) fn token_id(claims: &Claims) -> Result<(), Reason> {
    let is_id = |text: &str| {
        (1..=LONGEST_TOKEN_ID).contains(&text.len()) && !text.contains(char::is_control)
    };
    let id = claims.get("jti").and_then(Value::as_str).filter(|text| is_id(text));
    id.map(|_| ()).ok_or(Reason::TokenId)
}

pub(super) fn not_expired(claims: &Claims, now: i64) -> Result<(), Reason> {
    let expires = integer(claims, "exp")?;
    if now < expires.saturating_add(LEEWAY) { Ok(()) } else { Err(Reason::Expired) }
}

pub(super) fn times(claims: &Claims, now: i64) -> Result<(), Reason> {
    let issued = integer(claims, "iat")?;
    not_expired(claims, now)?;
    if issued > now.saturating_add(LEEWAY) {
        return Err(Reason::IssuedInFuture);
    }
    if claims.contains_key("nbf") && integer(claims, "nbf")? > now.saturating_add(LEEWAY) {
        return Err(Reason::NotYetValid);
    }
    Ok(())
}

/// The time from `iat` to `exp`. Rejects tokens that are valid for years, or until 1e19: they would
/// be worth stealing.
pub(super) fn lifetime(claims: &Claims, longest: i64) -> Result<(), Reason> {
    let (expires, issued) = (integer(claims, "exp")?, integer(claims, "iat")?);
    let lifetime = expires.checked_sub(issued).filter(|seconds| (1..=longest).contains(seconds));
    lifetime.map(|_| ()).ok_or(Reason::Lifetime)
}

pub(super) fn age(claims: &Claims, oldest: Option<i64>, now: i64) -> Result<(), Reason> {
    let Some(oldest) = oldest else { return Ok(()) };
    let age = now.checked_sub(integer(claims, "iat")?).ok_or(Reason::Age)?;
    if age <= oldest { Ok(()) } else { Err(Reason::Age) }
}

/// The first claim that is missing or empty.
pub(super) fn required<'a>(claims: &Claims, paths: &'a [ClaimPath]) -> Result<(), &'a ClaimPath> {
    let has_content = |path: &&ClaimPath| match path.find(claims) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => true,
    };
    paths.iter().find(|path| !has_content(path)).map_or(Ok(()), Err)
}

pub(super) fn integer(claims: &Claims, name: &str) -> Result<i64, Reason> {
    let value = claims.get(name).and_then(Value::as_i64);
    value.filter(|value| (0..=LARGEST_INTEGER).contains(value)).ok_or(Reason::Times)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::bounds::{LONGEST_LIFETIME, LONGEST_SUBJECT};
    use crate::identity::checks::{AFTER_SIGNATURE, Facts};
    use crate::identity::jwt::Header;
    use crate::identity::policy::{Replay, TokenPolicy};

    const NOW: i64 = 1_700_000_000;

    fn claims_with(name: &str, value: Option<Value>) -> Claims {
        let mut claims =
            json!({ "iss": "i", "aud": "us", "sub": "s", "exp": NOW + 300, "iat": NOW - 10 })
                .as_object()
                .unwrap()
                .clone();
        match value {
            Some(value) => claims.insert(name.to_owned(), value),
            None => claims.remove(name),
        };
        claims
    }

    fn verdict_of(claims: &Claims, policy: &TokenPolicy) -> Result<(), Reason> {
        let facts = Facts {
            header: &Header::default(),
            claims,
            policy,
            issuer: "i",
            audience: "us",
            now: NOW,
        };
        AFTER_SIGNATURE.iter().try_for_each(|check| (check.holds)(&facts))
    }

    fn verdict(name: &str, value: Option<Value>) -> Result<(), Reason> {
        verdict_of(&claims_with(name, value), &TokenPolicy::default())
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
            ("aud", Some(json!(vec!["us"; MOST_AUDIENCES + 1])), Reason::TooManyAudiences),
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
            ("sub", Some(json!("x".repeat(LONGEST_SUBJECT + 1))), Reason::Subject),
        ] {
            assert_eq!(verdict(name, value.clone()), Err(reason), "{name} {value:?}");
        }
    }

    #[test]
    fn what_real_issuers_send_is_accepted() {
        for (name, value) in [
            ("aud", json!(["them", "us"])),
            ("exp", json!(NOW - 5)),
            ("exp", json!(NOW - 10 + LONGEST_LIFETIME)),
            ("iat", json!(NOW + 30)),
            ("nbf", json!(NOW + 30)),
            ("nbf", json!(0)),
            ("sub", json!("repo:acme/my-app:ref:refs/heads/main")),
            ("sub", json!("Zoë")),
            ("sub", json!("x".repeat(LONGEST_SUBJECT))),
            ("aud", json!(vec!["us"; MOST_AUDIENCES])),
            ("jti", json!(7)),
            ("jti", json!("x".repeat(2000))),
        ] {
            assert!(verdict(name, Some(value.clone())).is_ok(), "{name} {value}");
        }
    }

    #[test]
    fn an_issuer_may_ask_for_more() {
        let path = |name: &str| ClaimPath::parse(name).unwrap();
        let strict = |change: fn(&mut TokenPolicy)| {
            let mut policy = TokenPolicy::default();
            change(&mut policy);
            policy
        };
        let single_use = strict(|policy| policy.replay = Replay::SingleUse);
        let short = strict(|policy| policy.max_lifetime = 310);
        let young = strict(|policy| policy.max_age = Some(10));
        let names = TokenPolicy {
            required_claims: vec![path("repository_id"), path("/kubernetes.io/namespace")],
            ..TokenPolicy::default()
        };
        let with = |name: &str, value: Value| claims_with(name, Some(value));
        for (claims, policy, verdict) in [
            (claims_with("jti", None), &single_use, Err(Reason::TokenId)),
            (with("jti", json!("x".repeat(LONGEST_TOKEN_ID))), &single_use, Ok(())),
            (with("jti", json!(1)), &single_use, Err(Reason::TokenId)),
            (with("jti", json!(null)), &single_use, Err(Reason::TokenId)),
            (with("jti", json!("")), &single_use, Err(Reason::TokenId)),
            (with("jti", json!("a\nb")), &single_use, Err(Reason::TokenId)),
            (
                with("jti", json!("x".repeat(LONGEST_TOKEN_ID + 1))),
                &single_use,
                Err(Reason::TokenId),
            ),
            (with("iat", json!(NOW - 10)), &short, Ok(())),
            (with("iat", json!(NOW - 11)), &short, Err(Reason::Lifetime)),
            (with("iat", json!(NOW - 10)), &young, Ok(())),
            (with("iat", json!(NOW + 5)), &young, Ok(())),
            (with("iat", json!(NOW - 11)), &young, Err(Reason::Age)),
            (with("x", json!(1)), &names, Err(Reason::RequiredClaim)),
        ] {
            assert_eq!(verdict_of(&claims, policy), verdict, "{claims:?}");
        }
        let mut claims = with("repository_id", json!("1"));
        assert_eq!(
            required(&claims, &names.required_claims),
            Err(&path("/kubernetes.io/namespace"))
        );
        for (namespace, verdict) in [
            (json!({}), Err(Reason::RequiredClaim)),
            (json!({ "namespace": null }), Err(Reason::RequiredClaim)),
            (json!({ "namespace": "" }), Err(Reason::RequiredClaim)),
            (json!({ "namespace": "ci" }), Ok(())),
        ] {
            claims.insert("kubernetes.io".to_owned(), namespace);
            assert_eq!(verdict_of(&claims, &names), verdict, "{claims:?}");
        }
    }

    proptest::proptest! {
        /// No numbers cause a panic, and an expired token stays expired.
        #[test]
        fn time_never_overflows(iat: i64, exp: i64, nbf: i64, now: i64, longest: i64) {
            let claims = json!({ "iat": iat, "exp": exp, "nbf": nbf }).as_object().unwrap().clone();
            let _ = (times(&claims, now), lifetime(&claims, longest));
            let _ = age(&claims, Some(longest), now);
            if not_expired(&claims, now) == Err(Reason::Expired) {
                proptest::prop_assert!(not_expired(&claims, now.saturating_add(1)).is_err());
            }
        }
    }
}
