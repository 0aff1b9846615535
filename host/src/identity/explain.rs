//! What verifying a token finds, check by check, for the operator who asks why. Nothing here decides anything.

use serde::Serialize;

use super::checks::{AFTER_SIGNATURE, BEFORE_SIGNATURE, Check, Facts};
use super::issuers::Issuer;
use super::jwt::Unverified;
use super::reason::{Reason, Stage};
use super::{Identity, KeyAccess::Offline, TokenPolicy, claims};
use crate::domain::{Secret, Subject};

/// Whether an issuer's keys may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAccess {
    Fetch,
    /// Keys from files only.
    Offline,
}

#[derive(Debug)]
pub struct Explanation {
    /// Every check, in the order of verification; what could not be reached is left out.
    pub findings: Vec<Finding>,
    /// Who the token would be, as far as it can be read, whether or not it is good.
    pub subject: Option<Subject>,
}

#[derive(Debug, Serialize)]
pub struct Finding {
    pub check: &'static str,
    #[serde(skip)]
    pub says: &'static str,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Passed,
    Failed,
    /// The issuer's keys were not there to check it with.
    Unknown,
}

const STAGES: [(Stage, &str, &str); 4] = [
    (Stage::Form, "form", "it is three base64url parts joined by `.`, of at most 8192 bytes"),
    (Stage::Header, "header", "its header is small, flat, and brings no key of its own"),
    (Stage::Payload, "payload", "its payload is a JSON object that says nothing twice"),
    (Stage::Issuer, "known-issuer", "its `iss` is one of the configured issuers"),
];
/// Longer than that is no help to anybody.
const LONGEST_SHOWN: usize = 300;

impl Explanation {
    /// No check failed and none was left out.
    pub fn is_verified(&self) -> bool {
        self.subject.is_some() && self.findings.iter().all(|it| it.verdict == Verdict::Passed)
    }

    pub fn has_failed(&self) -> bool {
        self.findings.iter().any(|it| it.verdict == Verdict::Failed)
    }
}

impl Identity {
    /// The checks of [`Identity::verify`], also those behind one that failed.
    pub async fn explain(&self, token: &Secret, keys: KeyAccess) -> Explanation {
        let token = match Unverified::parse(token.expose()) {
            Ok(token) => token,
            Err(reason) => {
                return Explanation { findings: unreadable(reason, None), subject: None };
            }
        };
        let (iss, issuer) = match self.issuer_of(&token) {
            Ok(found) => found,
            Err(reason) => {
                let mut known: Vec<&str> = self.issuers.keys().map(String::as_str).collect();
                known.sort_unstable();
                let found = token.claims.get("iss").map_or("none".to_owned(), ToString::to_string);
                let expected = (known.join(", "), found);
                return Explanation { findings: unreadable(reason, Some(expected)), subject: None };
            }
        };
        let facts = self.facts(&token, iss, issuer);
        let mut findings: Vec<Finding> =
            STAGES.into_iter().map(|(_, check, says)| Finding::passed(check, says)).collect();
        findings.extend(BEFORE_SIGNATURE.iter().map(|check| Finding::of(check, &facts)));
        findings.push(signature(&token, issuer, keys).await);
        // The second look at the audience and at the expiry is for verifying, which takes time between the two.
        let rest = AFTER_SIGNATURE
            .iter()
            .filter(|it| BEFORE_SIGNATURE.iter().all(|before| before.name != it.name));
        findings.extend(rest.map(|check| Finding::of(check, &facts)));
        let sub = claims::subject(&token.claims).ok().map(str::to_owned);
        let issuer = issuer.name.clone();
        let claims = token.claims;
        Explanation { findings, subject: sub.map(|sub| Subject { issuer, sub, claims }) }
    }

    /// What an issuer's tokens must be, by its name.
    pub fn policy(&self, issuer: &str) -> Option<&TokenPolicy> {
        self.issuers.values().find(|it| it.name == issuer).map(|it| &it.policy)
    }
}

async fn signature(token: &Unverified<'_>, issuer: &Issuer, keys: KeyAccess) -> Finding {
    const CHECK: (&str, &str) = ("signature", "it is signed with the issuer's key of its `kid`");
    let unknown = |because: &str| Finding {
        verdict: Verdict::Unknown,
        because: Some(because.to_owned()),
        ..Finding::passed(CHECK.0, CHECK.1)
    };
    if keys == Offline && !issuer.keys.is_ready() {
        return unknown("the issuer's keys are not fetched with --offline");
    }
    let verdict = match issuer.key(token).await {
        Ok(key) => token.jws.verify(&issuer.policy.algorithms, &key),
        Err(Some(reason)) => Err(reason),
        Err(None) => return unknown("the issuer's keys could not be fetched, the log says why"),
    };
    match verdict {
        Ok(()) => Finding::passed(CHECK.0, CHECK.1),
        Err(reason) => Finding {
            found: token.jws.header.kid.as_ref().map(|kid| format!("`kid` {kid}")),
            ..Finding::failed(CHECK.0, CHECK.1, reason)
        },
    }
}

/// A token that could not be read as far as its checks: what held until then, and what did not.
fn unreadable(reason: Reason, pair: Option<(String, String)>) -> Vec<Finding> {
    let held = STAGES.into_iter().take_while(|(stage, ..)| *stage < reason.stage());
    let mut findings: Vec<Finding> =
        held.map(|(_, check, says)| Finding::passed(check, says)).collect();
    let failed = STAGES.into_iter().find(|(stage, ..)| *stage == reason.stage());
    findings.extend(failed.map(|(_, check, says)| {
        let (expected, found) = pair.unzip();
        Finding {
            expected,
            found: found.map(|it| shown(&it)),
            ..Finding::failed(check, says, reason)
        }
    }));
    findings
}

impl Finding {
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

/// What a stranger may have written goes to a terminal: short, and without what would steer it.
pub fn shown(text: &str) -> String {
    let is_long = text.chars().count() > LONGEST_SHOWN;
    let short =
        text.chars().take(LONGEST_SHOWN).map(|it| if it.is_control() { '\u{fffd}' } else { it });
    let short: String = short.collect();
    if is_long { short + "…" } else { short }
}
