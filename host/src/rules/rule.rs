//! One rule, and how a request fares with it.

use std::fmt;

use super::authorize::AccessRequest;
use super::condition::{Condition, Outcome};
use super::file::Mode;
use super::projects::ProjectMatcher;
use crate::domain::{Actions, Project, RegistryName, Subject};

/// Subjects of one issuer whose claims meet every condition may do `allow` to these projects in these registries.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) claims: Vec<Condition>,
    pub(super) projects: Vec<ProjectMatcher>,
    pub(super) registries: Vec<RegistryName>,
    pub(super) allow: Actions,
    pub(super) mode: Mode,
}

/// A rule's checks of one request, each with how it fared.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    pub rule: &'a Rule,
    pub checks: Vec<Check<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    pub part: Part<'a>,
    pub outcome: Outcome,
}

/// What of a rule a check is about.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
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

    pub fn registries(&self) -> &[RegistryName] {
        &self.registries
    }

    pub fn allow(&self) -> Actions {
        self.allow
    }

    /// By itself, or because its issuer is.
    pub fn is_on_trial(&self) -> bool {
        self.mode == Mode::Audit
    }

    pub fn matches(&self, subject: &Subject, request: &AccessRequest) -> bool {
        self.checks(subject, request).all(Check::held)
    }

    /// Every check, also behind one that failed.
    pub fn evaluate<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> Evaluation<'a> {
        Evaluation { rule: self, checks: self.checks(subject, request).collect() }
    }

    /// The one list of what must hold: matching and explaining both walk it.
    pub(super) fn checks<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> impl Iterator<Item = Check<'a>> {
        let issuer = Check::of(Part::Issuer(&self.issuer), self.issuer == subject.issuer);
        let registry = Check::of(Part::Registry, self.registries.contains(&request.registry));
        let project =
            Check::of(Part::Project, self.projects.iter().any(|it| it.matches(&request.project)));
        let claim = |condition: &'a Condition| Check {
            part: Part::Claim(condition),
            outcome: condition.check(&subject.claims, &request.project),
        };
        [issuer, registry, project].into_iter().chain(self.claims.iter().map(claim))
    }

    /// The projects for which the rule matches the subject, as patterns; none if there is no such project.
    pub(super) fn reach(&self, subject: &Subject) -> Vec<ProjectMatcher> {
        // Any project will do for a condition that does not depend on it.
        let Ok(any) = "any".parse() else { return Vec::new() };
        let holds =
            |it: &Condition, project: &Project| it.check(&subject.claims, project) == Outcome::Held;
        let (bound, free): (Vec<_>, Vec<_>) =
            self.claims.iter().partition(|it| it.involves_project());
        if self.issuer != subject.issuer || !free.iter().all(|it| holds(it, &any)) {
            return Vec::new();
        }
        let Some(first) = bound.first() else { return self.projects.clone() };
        let mut named = first.projects_in(&subject.claims);
        named.retain(|project| {
            bound.iter().all(|it| holds(it, project))
                && self.projects.iter().any(|it| it.matches(project))
        });
        named.sort();
        named.dedup();
        named.into_iter().map(ProjectMatcher::Name).collect()
    }
}

impl Evaluation<'_> {
    pub fn matches(&self) -> bool {
        self.checks.iter().copied().all(Check::held)
    }
}

impl<'a> Check<'a> {
    /// What is to be, without how it fared.
    pub fn condition(self) -> String {
        match self.part {
            Part::Issuer(issuer) => format!("issuer is `{issuer}`"),
            Part::Registry => "the registry is one of the rule's".to_owned(),
            Part::Project => "the project is one of the rule's".to_owned(),
            Part::Claim(condition) => condition.to_string(),
        }
    }

    fn of(part: Part<'a>, held: bool) -> Self {
        Self { part, outcome: if held { Outcome::Held } else { Outcome::Different } }
    }

    pub fn held(self) -> bool {
        self.outcome == Outcome::Held
    }
}

impl fmt::Display for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.condition())?;
        match self.outcome {
            Outcome::Held => f.write_str(": yes"),
            Outcome::Different => f.write_str(": no"),
            Outcome::Missing => f.write_str(": no, the token has no such claim"),
            Outcome::WrongType { expected, found } => {
                write!(f, ": no, expected {expected}, found {found}")
            }
        }
    }
}
