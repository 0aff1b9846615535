//! Reports what each check finds in a token, for the operator who asks why. Decides nothing.

use serde::Serialize;

use super::checks::{AFTER_SIGNATURE, BEFORE_SIGNATURE, Check, Facts};
use super::issuers::Issuer;
use super::jwt::Unverified;
use super::reason::{Reason, Stage};
use super::rejection::shown;
use super::{Identity, KeyAccess::Offline, claims};
use crate::domain::{Secret, Subject};

/// Whether an issuer's keys may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAccess {
    Fetch,
    /// Only keys from files are used.
    Offline,
}

#[derive(Debug)]
pub(crate) struct Explanation {
    /// The checks in the order of verification. If the token cannot be read, the later ones are
    /// left out.
    pub(crate) findings: Vec<TokenFinding>,
    /// The subject that the token claims, whether or not the token is valid.
    pub(crate) subject: Option<Subject>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TokenFinding {
    pub(crate) check: &'static str,
    #[serde(skip)]
    pub(crate) says: &'static str,
    pub(crate) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) because: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// The issuer's keys were not available.
    Unknown,
}

const STAGES: [(Stage, &str, &str); 4] = [
    (Stage::Form, "form", "the token is three base64url parts joined by `.`, and not too long"),
    (Stage::Header, "header", "the header is small and flat, and supplies no key"),
    (Stage::Payload, "payload", "the payload is a JSON object without duplicate members"),
    (Stage::Issuer, "known-issuer", "`iss` is one of the configured issuers"),
];

impl Explanation {
    /// Whether every check passed.
    pub(crate) fn is_verified(&self) -> bool {
        self.subject.is_some()
            && self.findings.iter().all(|finding| finding.verdict == Verdict::Passed)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Failed)
    }
}

impl Identity {
    /// Runs the checks of [`Identity::verify`], also after one that failed.
    pub(crate) async fn explain(&self, token: &Secret, keys: KeyAccess) -> Explanation {
        let token = match Unverified::parse(token.expose()) {
            Ok(token) => token,
            Err(reason) => {
                return Explanation { findings: unreadable(reason, None), subject: None };
            }
        };
        let (iss, issuer) = match self.issuer_of(&token) {
            Ok(found) => found,
            Err(reason) => {
                let compared = Some(self.known_issuers(&token));
                return Explanation { findings: unreadable(reason, compared), subject: None };
            }
        };
        let facts = self.facts(&token, iss, issuer);
        let mut findings: Vec<TokenFinding> =
            STAGES.into_iter().map(|(_, check, says)| TokenFinding::passed(check, says)).collect();
        findings.extend(BEFORE_SIGNATURE.iter().map(|check| TokenFinding::of(check, &facts)));
        findings.push(signature(&token, issuer, keys).await);
        // Checks that verification repeats after the signature are listed once.
        let rest = AFTER_SIGNATURE
            .iter()
            .filter(|check| BEFORE_SIGNATURE.iter().all(|before| before.name != check.name));
        findings.extend(rest.map(|check| TokenFinding::of(check, &facts)));
        let sub = claims::subject(&token.claims).ok().map(str::to_owned);
        let issuer = issuer.name.clone();
        let claims = token.claims;
        Explanation { findings, subject: sub.map(|sub| Subject { issuer, sub, claims }) }
    }
}

async fn signature(token: &Unverified<'_>, issuer: &Issuer, keys: KeyAccess) -> TokenFinding {
    const CHECK: (&str, &str) =
        ("signature", "the signature was made with the issuer's key that `kid` names");
    let unknown = |because: &str| TokenFinding {
        verdict: Verdict::Unknown,
        because: Some(because.to_owned()),
        ..TokenFinding::passed(CHECK.0, CHECK.1)
    };
    if keys == Offline && !issuer.keys.is_ready() {
        return unknown("--offline does not fetch the issuer's keys");
    }
    let verdict = match issuer.key(token).await {
        Ok(key) => token.jws.verify(&issuer.policy.algorithms, &key),
        Err(Some(reason)) => Err(reason),
        Err(None) => return unknown("the issuer's keys could not be fetched; the log says why"),
    };
    match verdict {
        Ok(()) => TokenFinding::passed(CHECK.0, CHECK.1),
        Err(reason) => TokenFinding {
            found: token.jws.header.kid.as_ref().map(|kid| format!("`kid` {kid}")),
            ..TokenFinding::failed(CHECK.0, CHECK.1, reason)
        },
    }
}

/// The findings of a token that cannot be read: what passed until then, and what failed.
fn unreadable(reason: Reason, pair: Option<(String, String)>) -> Vec<TokenFinding> {
    let held = STAGES.into_iter().take_while(|(stage, ..)| *stage < reason.stage());
    let mut findings: Vec<TokenFinding> =
        held.map(|(_, check, says)| TokenFinding::passed(check, says)).collect();
    let failed = STAGES.into_iter().find(|(stage, ..)| *stage == reason.stage());
    findings.extend(failed.map(|(_, check, says)| {
        let (expected, found) = pair.unzip();
        TokenFinding {
            expected,
            found: found.map(|text| shown(&text)),
            ..TokenFinding::failed(check, says, reason)
        }
    }));
    findings
}

impl TokenFinding {
    fn of(check: &Check, facts: &Facts<'_>) -> Self {
        match (check.holds)(facts) {
            Ok(()) => Self::passed(check.name, check.says),
            Err(reason) => {
                let (expected, found) = (check.shows)(facts);
                Self {
                    expected: Some(expected),
                    found: Some(shown(&found)),
                    ..Self::failed(check.name, check.says, reason)
                }
            }
        }
    }

    fn passed(check: &'static str, says: &'static str) -> Self {
        Self { check, says, verdict: Verdict::Passed, because: None, expected: None, found: None }
    }

    fn failed(check: &'static str, says: &'static str, reason: Reason) -> Self {
        Self {
            verdict: Verdict::Failed,
            because: Some(reason.to_string()),
            ..Self::passed(check, says)
        }
    }
}
