//! `[[operators]]`: subjects with powers over all projects.
//!
//! **Invariant:** an operator is known by conditions on its token, as the subjects of rules are,
//! and never by the issuer alone. No operator gets a credential by being one: that is up to rules.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::condition::{Condition, ConditionOutcome};
use super::file::{ClaimFile, Mode};
use super::lint;
use super::parse::{Known, RuleProblem, RuleReport, conditions, named};
use super::projects::ProjectMatcher;
use super::rule::Rule;
use crate::domain::{Project, Rights, Subject};

/// Conditions without `{project}` are the same for every project.
const ANY_PROJECT: &str = "any";

/// One `[[operators]]` table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorFile {
    /// The name of the operator in logs and audit records.
    pub name: String,
    /// The name of one of `[[auth.issuers]]`.
    pub issuer: String,
    /// Conditions on the claims of the token, as in `[[rules]]` but without `{project}`; all must
    /// be met.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimFile>,
    #[serde(default)]
    pub allow: Vec<OperatorRight>,
}

/// A power over all projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperatorRight {
    /// To see which credentials are out, and to end them.
    Revoke,
    /// To read the audit log.
    Audit,
    /// To look at the repository of every project, to create it and to retire it.
    Repositories,
}

/// The operators, in the order of the settings.
#[derive(Clone, Debug, Default)]
pub struct Operators {
    all: Vec<Operator>,
    warnings: Vec<RuleProblem>,
}

#[derive(Clone, Debug)]
struct Operator {
    /// Its conditions. It covers no registry and allows nothing.
    rule: Rule,
    allow: BTreeSet<OperatorRight>,
}

impl OperatorRight {
    pub const ALL: [Self; 3] = [Self::Revoke, Self::Audit, Self::Repositories];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Audit => "audit",
            Self::Repositories => "repositories",
        }
    }
}

impl Operators {
    /// Checks every table and reports all problems at once.
    pub fn parse(files: Vec<OperatorFile>, known: &Known) -> Result<Self, Vec<RuleProblem>> {
        let (mut operators, mut problems, mut names) =
            (Self::default(), Vec::new(), BTreeSet::new());
        for (index, file) in files.into_iter().enumerate() {
            let mut report = RuleReport::new("operator", index, &file.name);
            if !names.insert(file.name.clone()) {
                report.add("/name", "has the name of an earlier operator; give it another name");
            }
            let operator = operator(file, known, &mut report);
            if report.problems.is_empty() {
                for (path, message) in operator.warnings(known) {
                    report.add(&path, message);
                }
                operators.warnings.append(&mut report.problems);
                operators.all.push(operator);
            } else {
                problems.append(&mut report.problems);
            }
        }
        let below = |problem: RuleProblem| problem.below("/operators");
        operators.warnings = operators.warnings.into_iter().map(below).collect();
        if problems.is_empty() {
            Ok(operators)
        } else {
            Err(problems.into_iter().map(below).collect())
        }
    }

    /// Returns the name of an operator that the subject is and that has this power.
    pub fn find(&self, subject: &Subject, right: OperatorRight) -> Option<&str> {
        let mut all = self.all.iter();
        let found = all.find(|operator| operator.allow.contains(&right) && operator.is(subject));
        found.map(|operator| operator.rule.name())
    }

    /// Returns warnings about operators that are valid but risky.
    pub fn warnings(&self) -> &[RuleProblem] {
        &self.warnings
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

fn operator(file: OperatorFile, known: &Known, report: &mut RuleReport) -> Operator {
    let OperatorFile { name, issuer, claims, allow } = file;
    named(&name, &issuer, known, report);
    let allow: BTreeSet<OperatorRight> = allow.into_iter().collect();
    if allow.is_empty() {
        report.add(
            "/allow",
            "allows nothing; set `allow` to some of \"revoke\", \"audit\" and \"repositories\"",
        );
    }
    let claims = conditions(claims, report);
    for condition in claims.iter().filter(|condition| condition.mentions("{project}")) {
        let path = format!("/claims/{}", super::parse::escape(condition.name()));
        report.add(&path, "has `{project}`, and an operator is one for all projects; write a text");
    }
    let mode = if known.is_on_trial(&issuer) { Mode::Audit } else { Mode::Enforce };
    let rule = Rule {
        name,
        issuer,
        claims,
        projects: vec![ProjectMatcher::Any],
        registries: Vec::new(),
        allow: Rights::NONE,
        catalog: false,
        mode,
    };
    Operator { rule, allow }
}

impl Operator {
    fn is(&self, subject: &Subject) -> bool {
        self.rule.issuer() == subject.issuer
            && !self.rule.is_on_trial()
            && self.rule.claims().iter().all(|condition| holds(condition, subject))
    }

    fn warnings(&self, known: &Known) -> Vec<(String, String)> {
        let mut warnings = lint::of_claims(&self.rule, known.kind_of(self.rule.issuer()));
        if self.rule.is_on_trial() {
            let message = "its issuer has `mode = \"audit\"`, so nobody is this operator";
            warnings.push(("/issuer".to_owned(), message.to_owned()));
        }
        let is_wide = |condition: &Condition| !condition.constrains() || condition.is_wide();
        if self.rule.claims().iter().all(is_wide) {
            let message =
                "matches a whole family of tokens; an operator has powers over everybody, \
                           so add a condition with an exact text, such as the group of your \
                           operators"
                    .to_owned();
            warnings.push(("/claims".to_owned(), message));
        }
        warnings
    }
}

/// No condition of an operator depends on the project.
fn holds(condition: &Condition, subject: &Subject) -> bool {
    let any: Result<Project, _> = ANY_PROJECT.parse();
    any.is_ok_and(|any| condition.check(&subject.claims, &any) == ConditionOutcome::Held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::IssuerKind;

    fn parse(text: &str) -> Result<Operators, Vec<RuleProblem>> {
        #[derive(Deserialize)]
        struct OperatorsFile {
            operators: Vec<OperatorFile>,
        }
        let known =
            Known::new(["corp"], []).issuer("github", IssuerKind::GithubActions, Mode::Enforce);
        let known = known.issuer("tried", IssuerKind::Other, Mode::Audit);
        Operators::parse(toml::from_str::<OperatorsFile>(text).unwrap().operators, &known)
    }

    fn with(more: &str) -> String {
        let key = |line: &str| line.split(' ').next().unwrap().to_owned();
        let lines = [
            "name = 'sre'",
            "issuer = 'corp'",
            "claims = { groups = { contains = 'sre' } }",
            "allow = ['revoke']",
        ];
        let kept = lines.iter().filter(|line| more.lines().all(|other| key(other) != key(line)));
        let lines: Vec<&str> = kept.copied().chain(more.lines()).collect();
        format!("[[operators]]\n{}\n", lines.join("\n"))
    }

    fn subject(issuer: &str, claims: &serde_json::Value) -> Subject {
        let claims = claims.as_object().unwrap().clone();
        Subject { issuer: issuer.to_owned(), sub: "s".to_owned(), claims }
    }

    #[test]
    fn an_operator_has_its_powers_and_no_others() {
        let operators = parse(&with("allow = ['revoke', 'audit']")).unwrap();
        assert_eq!(operators.warnings(), []);
        let sre = serde_json::json!({ "groups": ["dev", "sre"] });
        let found = |issuer, claims, right| {
            operators.find(&subject(issuer, claims), right).map(ToOwned::to_owned)
        };
        assert_eq!(found("corp", &sre, OperatorRight::Revoke).as_deref(), Some("sre"));
        assert_eq!(found("corp", &sre, OperatorRight::Audit).as_deref(), Some("sre"));
        assert_eq!(found("corp", &sre, OperatorRight::Repositories), None);
        assert_eq!(found("github", &sre, OperatorRight::Revoke), None);
        for others in [
            serde_json::json!({}),
            serde_json::json!({ "groups": "sre" }),
            serde_json::json!({ "groups": ["sre-guests"] }),
        ] {
            let found = operators.find(&subject("corp", &others), OperatorRight::Revoke);
            assert_eq!(found, None, "{others}");
        }
        let none = Operators::default();
        assert_eq!(none.find(&subject("corp", &sre), OperatorRight::Revoke), None);
    }

    #[test]
    fn each_gap_is_named_with_its_remedy() {
        for (line, path, part) in [
            ("name = ''", "/operators/0/name", "1 to 64"),
            ("issuer = 'gitlab'", "/operators/0/issuer", "unknown issuer `gitlab`"),
            ("claims = {}", "/operators/0/claims", "operator `sre`: matches every token"),
            ("claims = { aud = 'x' }", "/operators/0/claims", "other than `aud`"),
            ("claims = { sub = '{project}' }", "/operators/0/claims/sub", "has `{project}`"),
            ("allow = []", "/operators/0/allow", "allows nothing"),
        ] {
            let problems = parse(&with(line)).unwrap_err();
            assert_eq!(problems.len(), 1, "{line}: {problems:?}");
            assert_eq!(problems[0].path, path, "{line}");
            assert!(problems[0].message.contains(part), "{line}: {}", problems[0].message);
        }
        let twice = with("") + &with("");
        assert!(parse(&twice).unwrap_err()[0].message.contains("an earlier operator"));
    }

    #[test]
    fn a_wide_operator_is_warned_about() {
        for (lines, part) in [
            ("claims = { email = { prefix = 'ops-team@' } }", "a whole family"),
            ("issuer = 'github'\nclaims = { actor = 'octocat' }", "uses only names"),
            ("issuer = 'github'\nclaims = { ref = 'refs/heads/main' }", "names no owner"),
            ("issuer = 'tried'", "nobody is this operator"),
        ] {
            let operators = parse(&with(lines)).unwrap();
            let warnings: Vec<&str> =
                operators.warnings().iter().map(|warning| warning.message.as_str()).collect();
            assert!(warnings.iter().any(|warning| warning.contains(part)), "{lines}: {warnings:?}");
        }
    }

    #[test]
    fn nobody_of_an_issuer_on_trial_is_an_operator() {
        let operators = parse(&with("issuer = 'tried'")).unwrap();
        let sre = serde_json::json!({ "groups": ["sre"] });
        assert_eq!(operators.find(&subject("tried", &sre), OperatorRight::Revoke), None);
    }
}
