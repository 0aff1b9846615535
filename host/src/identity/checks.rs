//! What a token must say, as two lists: what is asked before the signature, and what after.
//!
//! Verifying walks them and stops at the first that fails; explaining walks the same lists to their end. What is asked before
//! the signature is cheap, and keeps a token that would be refused anyway from making us ask its issuer for keys.
//!
//! To add a check: a function in `claims.rs`, a line here, a [`Reason`].

use serde_json::Value;

use super::bounds::LEEWAY;
use super::claims;
use super::jwt::Header;
use super::policy::{Replay, TokenPolicy};
use super::reason::Reason;
use crate::domain::Claims;

/// All that a check looks at.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) header: &'a Header,
    pub(super) claims: &'a Claims,
    pub(super) policy: &'a TokenPolicy,
    /// The `iss` that was looked up.
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    /// Seconds since 1970.
    pub(super) now: i64,
}

pub(super) struct Check {
    /// How programs call it.
    pub(super) name: &'static str,
    /// How people do.
    pub(super) says: &'static str,
    pub(super) holds: fn(&Facts<'_>) -> Result<(), Reason>,
    /// What would be right, and what there is: for whoever asks why.
    pub(super) shows: fn(&Facts<'_>) -> (String, String),
}

pub(super) const BEFORE_SIGNATURE: [Check; 5] = [
    Check {
        name: "type",
        says: "its `typ` is one that the issuer's tokens have",
        holds: |it| {
            if it.policy.takes_type(it.header.typ.as_deref()) { Ok(()) } else { Err(Reason::Type) }
        },
        shows: |it| {
            (it.policy.token_types.join(" or "), it.header.typ.clone().unwrap_or_else(none))
        },
    },
    Check {
        name: "key-id",
        says: "it names its key by `kid`",
        holds: |it| {
            if it.header.kid.is_some() || !it.policy.require_kid {
                Ok(())
            } else {
                Err(Reason::MissingKeyId)
            }
        },
        shows: |it| ("a `kid`".to_owned(), it.header.kid.clone().unwrap_or_else(none)),
    },
    Check {
        name: "not-expired",
        says: "it has not expired",
        holds: |it| claims::not_expired(it.claims, it.now),
        shows: |it| (format!("`exp` after {}", it.now - LEEWAY), found(it, &["exp"])),
    },
    AUDIENCE,
    Check {
        name: "algorithm",
        says: "its `alg` is one of the issuer's `algorithms`",
        holds: |it| {
            let algorithm = it.header.algorithm.filter(|it2| it.policy.algorithms.contains(it2));
            algorithm.map(|_| ()).ok_or(Reason::Algorithm)
        },
        shows: |it| {
            let expected: Vec<&str> = it.policy.algorithms.iter().map(|it| it.as_str()).collect();
            let alg =
                it.header.algorithm.map_or("none that is taken from anybody", |it| it.as_str());
            (expected.join(" or "), alg.to_owned())
        },
    },
];

const AUDIENCE: Check = Check {
    name: "audience",
    says: "its `aud` is this deployment's audience",
    holds: |it| claims::audience(it.claims, it.audience),
    shows: |it| (it.audience.to_owned(), found(it, &["aud"])),
};

/// Expiry and the rest again, since fetching keys takes time; and whatever is the issuer's own doing.
pub(super) const AFTER_SIGNATURE: [Check; 8] = [
    Check {
        name: "issuer",
        says: "its `iss` is the issuer's",
        holds: |it| claims::issuer(it.claims, it.issuer),
        shows: |it| (it.issuer.to_owned(), found(it, &["iss"])),
    },
    Check {
        name: "subject",
        says: "its `sub` is text of 1 to 255 printable characters",
        holds: |it| claims::subject(it.claims).map(|_| ()),
        shows: |it| ("text of 1 to 255 printable characters".to_owned(), found(it, &["sub"])),
    },
    AUDIENCE,
    Check {
        name: "token-id",
        says: "its `jti`, where there is one or must be, is text of 1 to 128 printable characters",
        holds: |it| claims::token_id(it.claims, it.policy.replay == Replay::SingleUse),
        shows: |it| ("text of 1 to 128 printable characters".to_owned(), found(it, &["jti"])),
    },
    Check {
        name: "times",
        says: "it is valid now: issued, begun and not expired",
        holds: |it| claims::times(it.claims, it.now),
        shows: |it| {
            let expected = format!(
                "`iat` and `nbf` until {0} and `exp` after it, give or take {1} s",
                it.now, LEEWAY
            );
            (expected, found(it, &["iat", "nbf", "exp"]))
        },
    },
    Check {
        name: "lifetime",
        says: "it is valid for no longer than the issuer's `max_lifetime`",
        holds: |it| claims::lifetime(it.claims, it.policy.max_lifetime),
        shows: |it| {
            (
                format!("1 to {} s from `iat` to `exp`", it.policy.max_lifetime),
                found(it, &["iat", "exp"]),
            )
        },
    },
    Check {
        name: "age",
        says: "it was issued no longer ago than the issuer's `max_age`",
        holds: |it| claims::age(it.claims, it.policy.max_age, it.now),
        shows: |it| {
            let expected = it.policy.max_age.map_or_else(
                || "any age".to_owned(),
                |age| format!("`iat` from {} on", it.now - age),
            );
            (expected, found(it, &["iat"]))
        },
    },
    Check {
        name: "required-claims",
        says: "it has all of the issuer's `required_claims`",
        holds: |it| {
            claims::required(it.claims, &it.policy.required_claims)
                .map_err(|_| Reason::RequiredClaim)
        },
        shows: |it| {
            let names: Vec<&str> =
                it.policy.required_claims.iter().map(crate::domain::ClaimPath::as_str).collect();
            let missing = claims::required(it.claims, &it.policy.required_claims).err();
            (
                names.join(", "),
                missing.map_or_else(|| "all of them".to_owned(), |name| format!("no `{name}`")),
            )
        },
    },
];

fn none() -> String {
    "none".to_owned()
}

/// Claims as they stand in the token.
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
