//! What one issuer's tokens must fulfil besides a valid signature.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::algorithm::Algorithm;
use super::bounds::LONGEST_LIFETIME;
use crate::domain::ClaimPath;

#[derive(Clone, Debug)]
pub(crate) struct TokenPolicy {
    /// May be empty for [`super::KeyOrigin::Local`], which always signs with `EdDSA`.
    pub(crate) algorithms: Vec<Algorithm>,
    /// Whether `algorithms` may need more than one kind of key. With one kind, no key can be used
    /// for another algorithm than it was made for.
    pub(crate) mixed_algorithms: bool,
    /// The accepted values of the header's `typ`. Keeps out other tokens that the issuer signs with
    /// the same key.
    pub(crate) token_types: Vec<String>,
    pub(crate) require_kid: bool,
    /// The longest time from `iat` to `exp`, in seconds.
    pub(crate) max_lifetime: i64,
    /// The longest time from `iat` until now, in seconds.
    pub(crate) max_age: Option<i64>,
    pub(crate) required_claims: Vec<ClaimPath>,
    pub(crate) replay: Replay,
    /// The lifetimes that tokens of the issuer have. A `max_lifetime` below them rejects every
    /// token, one above them protects from nothing.
    pub(crate) usual_lifetimes: RangeInclusive<i64>,
}

/// Whether a token may be used more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Replay {
    #[default]
    Off,
    /// A token is good for one credential.
    SingleUse,
}

/// 31 days, the longest timeout that a job of GitLab may have. A token that is valid for longer is
/// as dangerous as a stored key.
const LONGEST_MAX_LIFETIME: i64 = 31 * 24 * 60 * 60;

impl Default for TokenPolicy {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            mixed_algorithms: false,
            token_types: ["JWT", "at+jwt"].map(str::to_owned).to_vec(),
            require_kid: true,
            max_lifetime: LONGEST_LIFETIME,
            max_age: None,
            required_claims: Vec::new(),
            replay: Replay::Off,
            usual_lifetimes: 1..=LONGEST_LIFETIME,
        }
    }
}

impl TokenPolicy {
    /// RFC 7515 4.1.9: `application/` may be left out, and case does not matter. A token without
    /// `typ` is a plain JWT (RFC 7519).
    pub(super) fn accepts_type(&self, typ: Option<&str>) -> bool {
        let typ = typ.unwrap_or("JWT");
        let typ = typ
            .split_once('/')
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("application"))
            .map_or(typ, |(_, rest)| rest);
        self.token_types.iter().any(|accepted| accepted.eq_ignore_ascii_case(typ))
    }

    /// Everything that is wrong with the policy.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let families: BTreeSet<&str> =
            self.algorithms.iter().map(|algorithm| algorithm.family()).collect();
        if families.len() > 1 && !self.mixed_algorithms {
            let families: Vec<&str> = families.into_iter().collect();
            problems.push(format!(
                "`algorithms` need several kinds of key ({}): list only those that the issuer \
                 signs with, or set `mixed_algorithms = true`",
                families.join(", ")
            ));
        }
        if self.token_types.is_empty()
            || self.token_types.iter().any(|accepted| accepted.is_empty() || accepted.contains('/'))
        {
            let message = "`token_types` must be a list of values of `typ`, such as [\"JWT\"] or \
                           [\"at+jwt\"]";
            problems.push(message.to_owned());
        }
        if !(1..=LONGEST_MAX_LIFETIME).contains(&self.max_lifetime) {
            problems.push(format!("`max_lifetime` must be 1 to {LONGEST_MAX_LIFETIME} seconds"));
        }
        if self.max_age.is_some_and(|age| !(1..=LONGEST_MAX_LIFETIME).contains(&age)) {
            problems.push(format!("`max_age` must be 1 to {LONGEST_MAX_LIFETIME} seconds"));
        }
        problems
    }

    /// Settings that are allowed but probably not intended.
    pub(super) fn warnings(&self, longest: Option<u32>) -> Vec<String> {
        let (lifetime, usual) = (self.max_lifetime, &self.usual_lifetimes);
        let is_of_policy = longest.is_some_and(|longest| i64::from(longest) == lifetime);
        let setting =
            if is_of_policy { "`max_token_lifetime` of [limits.policy]" } else { "`max_lifetime`" };
        let too_long = (lifetime > *usual.end()).then(|| {
            format!(
                "`max_lifetime` is {lifetime} s: a leaked token can be used for longer than the {} \
                 s that this kind of issuer needs",
                usual.end()
            )
        });
        let too_short = (lifetime < *usual.start()).then(|| {
            format!(
                "{setting} is {lifetime} s, and the tokens of this issuer are valid for at \
                 least {} s: every token is rejected; raise it, or limit their age with `max_age`",
                usual.start()
            )
        });
        too_long.into_iter().chain(too_short).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_compared_as_it_is_meant() {
        let takes = |types: &[&str], typ| {
            TokenPolicy {
                token_types: types.iter().map(|typ| (*typ).to_owned()).collect(),
                ..TokenPolicy::default()
            }
            .accepts_type(typ)
        };
        for (types, typ, taken) in [
            (&["JWT"][..], Some("JWT"), true),
            (&["JWT"], Some("jwt"), true),
            (&["JWT"], None, true),
            (&["JWT"], Some("at+jwt"), false),
            (&["at+jwt"], Some("application/at+jwt"), true),
            (&["at+jwt"], Some("AT+JWT"), true),
            (&["at+jwt"], Some("JWT"), false),
            (&["at+jwt"], None, false),
            (&["JWT", "at+jwt"], Some("logout+jwt"), false),
            (&["JWT"], Some("text/JWT"), false),
            (&["JWT"], Some(""), false),
        ] {
            assert_eq!(takes(types, typ), taken, "{types:?} {typ:?}");
        }
    }

    #[test]
    fn what_weakens_verification_must_be_stated() {
        let problems = |change: fn(&mut TokenPolicy)| {
            let mut policy = TokenPolicy {
                algorithms: vec![Algorithm::Rs256, Algorithm::Ps256],
                ..TokenPolicy::default()
            };
            change(&mut policy);
            policy.problems().len()
        };
        assert_eq!(problems(|_| {}), 0);
        assert_eq!(problems(|policy| policy.algorithms.push(Algorithm::Es256)), 1);
        assert_eq!(
            problems(|policy| {
                policy.algorithms.push(Algorithm::Es256);
                policy.mixed_algorithms = true;
            }),
            0
        );
        assert_eq!(problems(|policy| policy.token_types.clear()), 1);
        assert_eq!(problems(|policy| policy.max_lifetime = 0), 1);
        assert_eq!(problems(|policy| policy.max_lifetime = i64::MAX), 1);
        assert_eq!(problems(|policy| policy.max_age = Some(-1)), 1);
        let lives = |max_lifetime| TokenPolicy {
            max_lifetime,
            usual_lifetimes: 300..=LONGEST_LIFETIME,
            ..TokenPolicy::default()
        };
        for (lifetime, warnings) in
            [(299, 1), (300, 0), (LONGEST_LIFETIME, 0), (LONGEST_LIFETIME + 1, 1)]
        {
            let policy = lives(lifetime);
            assert_eq!((policy.problems().len(), policy.warnings(None).len()), (0, warnings));
        }
        assert_eq!(TokenPolicy::default().warnings(None).len(), 0);
    }
}
