//! One rule, and the checks of a request against it.

use std::fmt;

use super::authorize::AccessRequest;
use super::condition::{Condition, ConditionOutcome};
use super::file::Mode;
use super::projects::ProjectMatcher;
use crate::domain::{Project, RegistryName, Rights, Subject};

/// Allows `allow` on these projects in these registries to the subjects of one issuer whose claims
/// meet every condition.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) claims: Vec<Condition>,
    pub(super) projects: Vec<ProjectMatcher>,
    pub(super) registries: Vec<RegistryName>,
    pub(super) allow: Rights,
    pub(super) catalog: bool,
    pub(super) mode: Mode,
}

/// All checks of one request against a rule, each with its outcome.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    pub rule: &'a Rule,
    pub checks: Vec<RuleCheck<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct RuleCheck<'a> {
    pub part: RulePart<'a>,
    pub outcome: ConditionOutcome,
}

/// The part of a rule that a check is for.
#[derive(Clone, Copy, Debug)]
pub enum RulePart<'a> {
    Issuer(&'a str),
    Registry,
    Project,
    Claim(&'a Condition),
}

impl Rule {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn claims(&self) -> &[Condition] {
        &self.claims
    }

    pub fn projects(&self) -> &[ProjectMatcher] {
        &self.projects
    }

    /// Returns whether a condition compares `aud` with texts that are not this audience. A token
    /// may have several audiences as a list, which such a condition does not match either.
    pub(crate) fn wants_other_audience(&self, audience: &str) -> bool {
        let texts = |condition: &Condition| condition.exact_texts();
        let of_aud = self.claims.iter().filter(|condition| condition.name() == "aud").map(texts);
        of_aud
            .filter(|texts| !texts.is_empty())
            .any(|texts| !texts.iter().any(|text| text == audience))
    }

    pub fn registries(&self) -> &[RegistryName] {
        &self.registries
    }

    pub fn allow(&self) -> Rights {
        self.allow
    }

    /// Returns whether the rule or its issuer has `mode = "audit"`.
    pub fn is_on_trial(&self) -> bool {
        self.mode == Mode::Audit
    }

    pub fn matches(&self, subject: &Subject, request: &AccessRequest) -> bool {
        self.checks(subject, request).all(RuleCheck::held)
    }

    /// Runs every check, even after one has failed.
    pub fn evaluate<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> Evaluation<'a> {
        Evaluation { rule: self, checks: self.checks(subject, request).collect() }
    }

    /// The single list of checks, used both to match and to explain.
    pub(super) fn checks<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> impl Iterator<Item = RuleCheck<'a>> {
        let issuer = RuleCheck::of(RulePart::Issuer(&self.issuer), self.issuer == subject.issuer);
        let registry =
            RuleCheck::of(RulePart::Registry, self.registries.contains(&request.registry));
        let project = RuleCheck::of(
            RulePart::Project,
            self.projects.iter().any(|projects| projects.matches(&request.project)),
        );
        let claim = |condition: &'a Condition| RuleCheck {
            part: RulePart::Claim(condition),
            outcome: condition.check(&subject.claims, &request.project),
        };
        [issuer, registry, project].into_iter().chain(self.claims.iter().map(claim))
    }

    /// Returns the projects for which the rule matches the subject, as patterns.
    pub(super) fn reach(&self, subject: &Subject) -> Vec<ProjectMatcher> {
        // A condition that does not depend on the project can be checked with any project.
        let Ok(any) = "any".parse() else { return Vec::new() };
        let holds = |condition: &Condition, project: &Project| {
            condition.check(&subject.claims, project) == ConditionOutcome::Held
        };
        let (bound, free): (Vec<_>, Vec<_>) =
            self.claims.iter().partition(|condition| condition.depends_on_project(&subject.claims));
        if self.issuer != subject.issuer || !free.iter().all(|condition| holds(condition, &any)) {
            return Vec::new();
        }
        let Some(first) = bound.first() else { return self.projects.clone() };
        let mut named = first.projects_in(&subject.claims);
        named.retain(|project| {
            bound.iter().all(|condition| holds(condition, project))
                && self.projects.iter().any(|projects| projects.matches(project))
        });
        named.sort();
        named.dedup();
        named.into_iter().map(ProjectMatcher::Name).collect()
    }
}

impl Evaluation<'_> {
    pub fn matches(&self) -> bool {
        self.checks.iter().copied().all(RuleCheck::held)
    }
}

impl<'a> RuleCheck<'a> {
    /// Describes what must be true, without the outcome.
    pub fn condition(self) -> String {
        match self.part {
            RulePart::Issuer(issuer) => format!("issuer is `{issuer}`"),
            RulePart::Registry => "the rule covers the registry".to_owned(),
            RulePart::Project => "the rule covers the project".to_owned(),
            RulePart::Claim(condition) => condition.to_string(),
        }
    }

    fn of(part: RulePart<'a>, held: bool) -> Self {
        Self {
            part,
            outcome: if held { ConditionOutcome::Held } else { ConditionOutcome::Different },
        }
    }

    pub fn held(self) -> bool {
        self.outcome == ConditionOutcome::Held
    }
}

impl fmt::Display for RuleCheck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.condition())?;
        match self.outcome {
            ConditionOutcome::Held => f.write_str(": yes"),
            ConditionOutcome::Different => f.write_str(": no"),
            ConditionOutcome::DifferentCase => {
                f.write_str(": no, it differs in upper case; `{ lower = \"…\" }` would match")
            }
            ConditionOutcome::Missing => f.write_str(": no, the token has no such claim"),
            ConditionOutcome::WrongType { expected, found } => {
                write!(f, ": no, expected {expected}, found {found}")
            }
        }
    }
}
