//! A rejected token: the rule that it breaks, and what it had instead.
//!
//! [`Display`](fmt::Display) is for the operator's log. [`Rejection::for_caller`] is the part that
//! the caller may know: limits that are the same for everybody, and the limits of an issuer only if
//! that issuer signed the token. Whether the audience, the key or the signature was wrong is for
//! the operator alone.
//!
//! **Invariant:** every text from the token is printable and bounded.

use std::fmt;

use super::jwt::Unverified;
use super::reason::Reason;
use crate::domain::Claims;

/// Longer text would not help the reader.
const LONGEST_SHOWN: usize = 300;

#[derive(Debug)]
pub struct Rejection {
    pub reason: Reason,
    /// The name of the configured issuer that the token claims to be of.
    pub issuer: Option<String>,
    /// Otherwise anybody may have written the token.
    pub signature_valid: bool,
    /// `iss` and `aud` of the token.
    pub iss: Option<String>,
    pub aud: Option<String>,
    /// What the check accepts, and what the token has.
    pub expected: Option<String>,
    pub found: Option<String>,
}

impl Rejection {
    /// A token that could not be read.
    pub(super) fn unreadable(reason: Reason, length: usize) -> Self {
        let found = (reason == Reason::Size).then(|| format!("{length} bytes"));
        Self {
            reason,
            issuer: None,
            signature_valid: false,
            iss: None,
            aud: None,
            expected: None,
            found,
        }
    }

    /// A token that could be read.
    pub(super) fn of(reason: Reason, token: &Unverified<'_>) -> Self {
        Self {
            iss: seen(&token.claims, "iss"),
            aud: seen(&token.claims, "aud"),
            ..Self::unreadable(reason, 0)
        }
    }

    /// The issuer that the token claims, which is not necessarily the one that signed it.
    #[must_use]
    pub(super) fn of_issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.to_owned());
        self
    }

    #[must_use]
    pub(super) fn comparing(mut self, (expected, found): (String, String)) -> Self {
        (self.expected, self.found) = (Some(expected), Some(shown(&found)));
        self
    }

    /// What the caller may know about the reason, as whole sentences.
    pub fn for_caller(&self) -> Option<String> {
        let (reason, found) = (self.reason, self.found.as_deref().unwrap_or("nothing"));
        match reason {
            Reason::Size => Some(format!(
                "{}: it has {found}. Ask its issuer for fewer claims; lists of groups are usually \
                 the longest.",
                sentence(&reason)
            )),
            Reason::Payload(_) | Reason::Header(_) | Reason::ForbiddenHeader(_) => {
                Some(format!("{}.", sentence(&reason)))
            }
            Reason::Times | Reason::TooManyAudiences | Reason::Subject | Reason::TokenId => {
                Some(format!("{}; it has {found}.", sentence(&reason)))
            }
            Reason::Expired => Some("The token has expired. Get a fresh one.".to_owned()),
            Reason::NotYetValid | Reason::IssuedInFuture => Some(format!(
                "{}. Check the clock of the machine that issued it.",
                sentence(&reason)
            )),
            Reason::Lifetime | Reason::Age | Reason::RequiredClaim if self.signature_valid => {
                Some(self.of_the_issuers_limits(found))
            }
            Reason::Lifetime
            | Reason::Age
            | Reason::RequiredClaim
            | Reason::Shape
            | Reason::Type
            | Reason::KeyId
            | Reason::MissingKeyId
            | Reason::Issuer
            | Reason::UnknownIssuer
            | Reason::Algorithm
            | Reason::Audience
            | Reason::UnknownKey
            | Reason::UnnamedKey
            | Reason::KeyMismatch
            | Reason::Signature => None,
        }
    }

    fn of_the_issuers_limits(&self, found: &str) -> String {
        let expected = self.expected.as_deref().unwrap_or("less");
        let remedy = if self.reason == Reason::Lifetime {
            "Ask the issuer for a token with a shorter life (in GitLab, the job's timeout is the \
             life of its tokens), or ask the operator to raise `max_lifetime`."
        } else {
            "Get another token, or ask the operator which tokens the broker accepts."
        };
        format!("{}: expected {expected}, found {found}. {remedy}", sentence(&self.reason))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(found) = &self.found {
            write!(f, "{} found {found}", if self.expected.is_some() { "," } else { ";" })?;
        }
        Ok(())
    }
}

fn sentence(reason: &Reason) -> String {
    let text = reason.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

fn seen(claims: &Claims, name: &str) -> Option<String> {
    let value = claims.get(name)?;
    Some(value.as_str().map_or_else(|| shown(&value.to_string()), shown))
}

/// Text from a stranger, fit for a terminal: shortened, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let is_long = text.chars().count() > LONGEST_SHOWN;
    let short =
        text.chars().take(LONGEST_SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let short: String = short.collect();
    if is_long { short + "…" } else { short }
}
