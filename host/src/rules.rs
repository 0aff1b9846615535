//! Which subjects may do what to which projects: a subject and a request become a [`Grant`] or [`Denied`].
//!
//! Pure: no I/O, no time, no async. To add a way to match a claim: `rules/file.rs` (how it is written), `rules/matcher.rs`
//! (what it takes), `rules/pattern.rs` (text in it).
//!
//! **Invariant:** a [`Grant`] is made in `rules/authorize.rs` only, and says no more than the rules that matched.
//! **Invariant:** there are no regular expressions. Every matcher ends at a delimiter or at the end of the text, so that
//! `acme` never stands for `acme-evil`.

mod authorize;
mod condition;
mod file;
mod matcher;
#[cfg(any(test, fuzzing))]
pub(crate) mod naive;
mod parse;
mod pattern;
mod projects;
mod rule;

pub use authorize::{AccessRequest, Denied, Grant, Refusal};
pub use condition::{Condition, Outcome};
pub use file::{ClaimFile, ProjectsFile, RuleFile};
pub use parse::{Known, Problem};
pub use projects::ProjectMatcher;
pub use rule::{Check, Evaluation, Part, Rule};

use std::collections::BTreeSet;

use crate::domain::{RegistryName, Subject};

/// All rules of a deployment. None at all denies everything.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    warnings: Vec<Problem>,
}

impl Rules {
    /// Checks every rule and reports every problem, so that an operator mends them in one go.
    pub fn parse(files: Vec<RuleFile>, known: &Known) -> Result<Self, Vec<Problem>> {
        parse::rules(files, known).map(|(rules, warnings)| Self { rules, warnings })
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Every rule, condition by condition: for the operator who asks why.
    pub fn evaluate<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> Vec<Evaluation<'a>> {
        self.rules.iter().map(|rule| rule.evaluate(subject, request)).collect()
    }

    /// The registries that the subject may reach for some project.
    pub fn reachable(&self, subject: &Subject) -> BTreeSet<&RegistryName> {
        self.rules
            .iter()
            .filter(|rule| rule.may_reach(subject))
            .flat_map(Rule::registries)
            .collect()
    }
}

#[cfg(test)]
mod property_tests;
