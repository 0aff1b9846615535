//! Rules decide which subjects may do what to which projects. A subject and a request become a
//! [`Grant`] or [`Denied`].
//!
//! This module is pure: no I/O, no time, no async. To add a way to match a claim, extend
//! `rules/file.rs` (its form in the settings), `rules/matcher.rs` (the type of claim) and
//! `rules/pattern.rs` (its text). To add a warning, extend `rules/lint.rs`.
//!
//! **Invariant:** only `rules/authorize.rs` makes a [`Grant`], and a grant never allows more than
//! the rules that matched.
//! **Invariant:** a rule on trial (`mode = "audit"`) is recorded and grants nothing; no rule grants
//! more than `[limits.policy]` permits.
//! **Invariant:** there are no regular expressions. Every matcher ends at a delimiter or at the end
//! of the text, so that `acme` never matches `acme-evil`.

mod authorize;
mod catalog;
mod condition;
mod file;
mod forms;
mod guardrail;
mod holdings;
mod index;
mod lint;
mod matcher;
#[cfg(any(test, fuzzing))]
pub(crate) mod naive;
mod operator;
mod parse;
mod pattern;
mod projects;
mod rule;
mod vocabulary;

pub use authorize::{AccessRequest, Denied, Grant, GrantView, PastGrant, Refusal};
pub use catalog::CatalogGrant;
pub use condition::{Condition, ConditionOutcome};
pub use file::{ClaimFile, GuardrailFile, Mode, ProjectsFile, RuleFile};
pub use guardrail::Guardrail;
pub use holdings::Holding;
pub use lint::IssuerKind;
pub use operator::{OperatorFile, OperatorRight, Operators};
pub use parse::{Known, RuleProblem};
pub use projects::ProjectMatcher;
pub use rule::{Evaluation, Rule, RuleCheck, RulePart};
pub use vocabulary::missing_claim;

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{ProjectShape, RegistryName, Subject};
use index::RuleIndex;

/// All rules of a deployment. Without rules everything is denied.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    all: Vec<Rule>,
    index: RuleIndex,
    guardrail: Guardrail,
    /// The projects that each registry has.
    shapes: BTreeMap<RegistryName, ProjectShape>,
    warnings: Vec<RuleProblem>,
    operators: Operators,
}

impl Rules {
    /// Checks every rule and reports all problems at once.
    pub fn parse(files: Vec<RuleFile>, known: &Known) -> Result<Self, Vec<RuleProblem>> {
        Self::parse_within(files, GuardrailFile::default(), known)
    }

    /// Like [`Rules::parse`], with a central policy that no rule may exceed.
    pub fn parse_within(
        files: Vec<RuleFile>,
        guardrail: GuardrailFile,
        known: &Known,
    ) -> Result<Self, Vec<RuleProblem>> {
        let below = |place: &'static str| {
            move |problems: Vec<RuleProblem>| {
                problems.into_iter().map(|problem| problem.below(place)).collect()
            }
        };
        let guardrail: Result<_, Vec<_>> =
            Guardrail::parse(guardrail, known).map_err(below("/limits/policy"));
        let no_guardrail = Guardrail::default();
        let rules = parse::rules(files, guardrail.as_ref().unwrap_or(&no_guardrail), known);
        match (guardrail, rules.map_err(below("/rules"))) {
            (Ok(guardrail), Ok((rules, warnings))) => {
                let warnings =
                    warnings.into_iter().map(|warning| warning.below("/rules")).collect();
                let index = RuleIndex::new(&rules);
                let (shapes, operators) = (known.shapes(), Operators::default());
                Ok(Self { all: rules, index, guardrail, shapes, warnings, operators })
            }
            (guardrail, rules) => {
                let mut problems: Vec<RuleProblem> = guardrail.err().unwrap_or_default();
                problems.extend(rules.err().into_iter().flatten());
                Err(problems)
            }
        }
    }

    /// Returns warnings about rules that are valid but risky.
    pub fn warnings(&self) -> &[RuleProblem] {
        &self.warnings
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.all.iter()
    }

    /// Returns the rules that may match the subject for some project, in the order of the settings.
    fn candidates(&self, subject: &Subject) -> impl Iterator<Item = &Rule> {
        self.index.find(subject).into_iter().filter_map(|number| self.all.get(number))
    }

    /// Returns those that are not on trial.
    fn enforced(&self, subject: &Subject) -> impl Iterator<Item = &Rule> {
        self.candidates(subject).filter(|rule| !rule.is_on_trial())
    }

    /// Adds the subjects with powers over all projects.
    pub fn set_operators(&mut self, operators: Operators) {
        self.operators = operators;
    }

    pub fn operators(&self) -> &Operators {
        &self.operators
    }

    /// Replaces what the settings told about the projects of a registry by what its provider told.
    pub fn set_shape(&mut self, registry: &RegistryName, shape: ProjectShape) {
        self.shapes.insert(registry.clone(), shape);
    }

    /// Returns which projects a registry has. Requests for others are denied.
    pub fn shape(&self, registry: &RegistryName) -> ProjectShape {
        self.shapes.get(registry).copied().unwrap_or_default()
    }

    pub fn guardrail(&self) -> &Guardrail {
        &self.guardrail
    }

    /// Evaluates every condition of every rule, to explain a decision to the operator.
    pub fn evaluate<'a>(
        &'a self,
        subject: &'a Subject,
        request: &'a AccessRequest,
    ) -> Vec<Evaluation<'a>> {
        self.all.iter().map(|rule| rule.evaluate(subject, request)).collect()
    }

    /// Returns the registries in which the rules allow the subject something for some project.
    pub fn reachable(&self, subject: &Subject) -> BTreeSet<&RegistryName> {
        let mut reachable = BTreeSet::new();
        for rule in self.enforced(subject) {
            let reach = rule.reach(subject);
            let fits =
                |name: &&RegistryName| reach.iter().any(|matcher| matcher.fits(self.shape(name)));
            reachable.extend(rule.registries().iter().filter(fits));
        }
        reachable
    }
}

#[cfg(test)]
mod property_tests;
