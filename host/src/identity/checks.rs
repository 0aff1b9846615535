//! What a token must contain, as two lists: the checks before its signature is verified, and those
//! after.
//!
//! Verification stops at the first check that fails; `explain` reports all of them. The checks
//! before the signature are cheap. They keep a token that would be rejected anyway from causing a
//! request to its issuer.
//!
//! To add a check: a function in `claims.rs`, an entry here, a [`Reason`].

use serde_json::Value;

use super::bounds::{LEEWAY, LONGEST_SUBJECT, LONGEST_TOKEN_ID};
use super::claims;
use super::jwt::Header;
use super::policy::{Replay, TokenPolicy};
use super::reason::Reason;
use crate::domain::Claims;

/// Everything that a check looks at.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) header: &'a Header,
    pub(super) claims: &'a Claims,
    pub(super) policy: &'a TokenPolicy,
    /// The configured `iss`.
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    /// Seconds since 1970.
    pub(super) now: i64,
}

pub(super) struct Check {
    /// The name in JSON.
    pub(super) name: &'static str,
    /// What the check says, for people.
    pub(super) says: &'static str,
    pub(super) holds: fn(&Facts<'_>) -> Result<(), Reason>,
    /// What would pass, and what the token has.
    pub(super) shows: fn(&Facts<'_>) -> (String, String),
}

pub(super) const BEFORE_SIGNATURE: [Check; 5] = [
    Check {
        name: "type",
        says: "`typ` is one of the issuer's `token_types`",
        holds: |facts| {
            if facts.policy.accepts_type(facts.header.typ.as_deref()) {
                Ok(())
            } else {
                Err(Reason::Type)
            }
        },
        shows: |facts| {
            (facts.policy.token_types.join(" or "), facts.header.typ.clone().unwrap_or_else(none))
        },
    },
    Check {
        name: "key-id",
        says: "the header names the key by `kid`",
        holds: |facts| {
            if facts.header.kid.is_some() || !facts.policy.require_kid {
                Ok(())
            } else {
                Err(Reason::MissingKeyId)
            }
        },
        shows: |facts| ("a `kid`".to_owned(), facts.header.kid.clone().unwrap_or_else(none)),
    },
    Check {
        name: "not-expired",
        says: "the token has not expired",
        holds: |facts| claims::not_expired(facts.claims, facts.now),
        shows: |facts| {
            (format!("`exp` greater than {}", facts.now - LEEWAY), found(facts, &["exp"]))
        },
    },
    AUDIENCE,
    Check {
        name: "algorithm",
        says: "`alg` is one of the issuer's `algorithms`",
        holds: |facts| {
            let algorithm = facts
                .header
                .algorithm
                .filter(|algorithm| facts.policy.algorithms.contains(algorithm));
            algorithm.map(|_| ()).ok_or(Reason::Algorithm)
        },
        shows: |facts| {
            let expected: Vec<&str> =
                facts.policy.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            let alg = facts
                .header
                .algorithm
                .map_or("an algorithm that the broker does not support", |algorithm| {
                    algorithm.as_str()
                });
            (expected.join(" or "), alg.to_owned())
        },
    },
];

const AUDIENCE: Check = Check {
    name: "audience",
    says: "`aud` contains this deployment's `audience`",
    holds: |facts| claims::audience(facts.claims, facts.audience),
    shows: |facts| (facts.audience.to_owned(), found(facts, &["aud"])),
};

/// Audience and expiry are checked again, because fetching keys takes time. Checks of what only the
/// issuer can have written come here too.
pub(super) const AFTER_SIGNATURE: [Check; 8] = [
    Check {
        name: "issuer",
        says: "`iss` is the configured one",
        holds: |facts| claims::issuer(facts.claims, facts.issuer),
        shows: |facts| (facts.issuer.to_owned(), found(facts, &["iss"])),
    },
    Check {
        name: "subject",
        says: "`sub` is printable text, and not too long",
        holds: |facts| claims::subject(facts.claims).map(|_| ()),
        shows: |facts| (printable(LONGEST_SUBJECT), measured(facts, "sub")),
    },
    AUDIENCE,
    Check {
        name: "token-id",
        says: "a token that is good for one credential has a `jti`",
        holds: |facts| match facts.policy.replay {
            // Nothing reads it then.
            Replay::Off => Ok(()),
            Replay::SingleUse => claims::token_id(facts.claims),
        },
        shows: |facts| (printable(LONGEST_TOKEN_ID), measured(facts, "jti")),
    },
    Check {
        name: "times",
        says: "the token is valid now (`iat`, `nbf`, `exp`)",
        holds: |facts| claims::times(facts.claims, facts.now),
        shows: |facts| {
            let expected = format!(
                "`iat` and `nbf` at most {0}, `exp` greater than {0}; clocks may differ by {1} s",
                facts.now, LEEWAY
            );
            (expected, found(facts, &["iat", "nbf", "exp"]))
        },
    },
    Check {
        name: "lifetime",
        says: "the token's lifetime is within the issuer's `max_lifetime`",
        holds: |facts| claims::lifetime(facts.claims, facts.policy.max_lifetime),
        shows: |facts| {
            (
                format!("at most {} s from `iat` to `exp`", facts.policy.max_lifetime),
                lifetime(facts),
            )
        },
    },
    Check {
        name: "age",
        says: "the token's age is within the issuer's `max_age`",
        holds: |facts| claims::age(facts.claims, facts.policy.max_age, facts.now),
        shows: |facts| {
            let expected = facts.policy.max_age.map_or_else(
                || "any age".to_owned(),
                |age| format!("`iat` of at least {}", facts.now - age),
            );
            (expected, found(facts, &["iat"]))
        },
    },
    Check {
        name: "required-claims",
        says: "the token has all of the issuer's `required_claims`",
        holds: |facts| {
            claims::required(facts.claims, &facts.policy.required_claims)
                .map_err(|_| Reason::RequiredClaim)
        },
        shows: |facts| {
            let names: Vec<&str> =
                facts.policy.required_claims.iter().map(crate::domain::ClaimPath::as_str).collect();
            let missing = claims::required(facts.claims, &facts.policy.required_claims).err();
            (
                names.join(", "),
                missing.map_or_else(|| "all of them".to_owned(), |name| format!("no `{name}`")),
            )
        },
    },
];

fn printable(longest: usize) -> String {
    format!("printable text of 1 to {longest} bytes")
}

/// A text, or the length of a long one.
fn measured(facts: &Facts<'_>, name: &str) -> String {
    match facts.claims.get(name) {
        Some(Value::String(text)) if text.len() > 100 => format!("text of {} bytes", text.len()),
        Some(_) | None => found(facts, &[name]),
    }
}

fn lifetime(facts: &Facts<'_>) -> String {
    let seconds = |name| claims::integer(facts.claims, name).ok();
    let lifetime = seconds("exp").zip(seconds("iat")).map(|(exp, iat)| exp.saturating_sub(iat));
    let claims = found(facts, &["iat", "exp"]);
    lifetime.map_or_else(|| claims.clone(), |lifetime| format!("{lifetime} s ({claims})"))
}

fn none() -> String {
    "none".to_owned()
}

/// The claims as the token has them.
fn found(facts: &Facts<'_>, names: &[&str]) -> String {
    let claim = |name: &&str| facts.claims.get(*name).map_or_else(none, Value::to_string);
    match names {
        [only] => claim(only),
        several => several
            .iter()
            .map(|name| format!("`{name}` {}", claim(name)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
