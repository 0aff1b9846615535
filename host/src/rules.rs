//! Which subjects may do what to which projects: a subject and a request become a [`Grant`] or [`Denied`].
//!
//! Pure: no I/O, no time, no async. To add a way to match a claim: `rules/file.rs` (how it is written), `rules/matcher.rs`
//! (what it takes), `rules/pattern.rs` (text in it). To warn about something: `rules/lint.rs`.
//!
//! **Invariant:** a [`Grant`] is made in `rules/authorize.rs` only, and says no more than the rules that matched.
//! **Invariant:** a rule on trial (`mode = "audit"`) is recorded and grants nothing; no rule grants more than
//! `[limits.policy]` permits.
//! **Invariant:** there are no regular expressions. Every matcher ends at a delimiter or at the end of the text, so that
//! `acme` never stands for `acme-evil`.

mod authorize;
mod condition;
mod file;
mod guardrail;
mod holdings;
mod lint;
mod matcher;
#[cfg(any(test, fuzzing))]
pub(crate) mod naive;
mod parse;
mod pattern;
mod projects;
mod rule;

pub use authorize::{AccessRequest, Denied, Grant, Refusal};
pub use condition::{Condition, Outcome};
pub use file::{ClaimFile, GuardrailFile, Mode, ProjectsFile, RuleFile};
pub use guardrail::Guardrail;
pub use holdings::Holding;
pub use lint::IssuerKind;
pub use parse::{Known, Problem};
pub use projects::ProjectMatcher;
pub use rule::{Check, Evaluation, Part, Rule};

use std::collections::BTreeSet;

use crate::domain::{RegistryName, Subject};

/// All rules of a deployment. None at all denies everything.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Rule>,
    guardrail: Guardrail,
    warnings: Vec<Problem>,
}

impl Rules {
    /// Checks every rule and reports every problem, so that an operator mends them in one go.
    pub fn parse(files: Vec<RuleFile>, known: &Known) -> Result<Self, Vec<Problem>> {
        Self::parse_within(files, GuardrailFile::default(), known)
    }

    /// The same, within what no rule may exceed.
    pub fn parse_within(
        files: Vec<RuleFile>,
        guardrail: GuardrailFile,
        known: &Known,
    ) -> Result<Self, Vec<Problem>> {
        let below = |place: &'static str| {
            move |problems: Vec<Problem>| problems.into_iter().map(|it| it.below(place)).collect()
        };
        let guardrail: Result<_, Vec<_>> =
            Guardrail::parse(guardrail, known).map_err(below("/limits/policy"));
        let no_guardrail = Guardrail::default();
        let rules = parse::rules(files, guardrail.as_ref().unwrap_or(&no_guardrail), known);
        match (guardrail, rules.map_err(below("/rules"))) {
            (Ok(guardrail), Ok((rules, warnings))) => {
                let warnings = warnings.into_iter().map(|it| it.below("/rules")).collect();
                Ok(Self { all: rules, guardrail, warnings })
            }
            (guardrail, rules) => {
                let mut problems: Vec<Problem> = guardrail.err().unwrap_or_default();
                problems.extend(rules.err().into_iter().flatten());
                Err(problems)
            }
        }
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.all.iter()
    }

    /// Those that are not on trial.
    fn enforced(&self) -> impl Iterator<Item = &Rule> {
        self.all.iter().filter(|rule| !rule.is_on_trial())
    }

    pub fn guardrail(&self) -> &Guardrail {
        &self.guardrail
    }

    /// Every rule, condition by condition: for the operator who asks why.
    pub fn evaluate<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> Vec<Evaluation<'a>> {
        self.all.iter().map(|rule| rule.evaluate(subject, request)).collect()
    }

    /// The registries that the subject may reach for some project.
    pub fn reachable(&self, subject: &Subject) -> BTreeSet<&RegistryName> {
        self.enforced()
            .filter(|rule| !rule.reach(subject).is_empty())
            .flat_map(Rule::registries)
            .collect()
    }
}

#[cfg(test)]
mod property_tests;
