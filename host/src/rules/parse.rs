//! Turns rules of the settings into checked rules, or returns all problems.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::condition::Condition;
use super::file::{ClaimFile, Mode, ProjectsFile, RuleFile};
use super::guardrail::Guardrail;
use super::lint::{self, IssuerKind};
use super::projects::ProjectMatcher;
use super::rule::Rule;
use crate::domain::{ProjectShape, RegistryName, Rights};

/// The names that rules may refer to.
#[derive(Clone, Debug, Default)]
pub struct Known {
    issuers: BTreeMap<String, (IssuerKind, Mode)>,
    registries: BTreeMap<RegistryName, ProjectShape>,
}

impl Known {
    pub fn new<I: Into<String>>(
        issuers: impl IntoIterator<Item = I>,
        registries: impl IntoIterator<Item = RegistryName>,
    ) -> Self {
        Self {
            issuers: issuers.into_iter().map(|name| (name.into(), Default::default())).collect(),
            registries: registries
                .into_iter()
                .map(|name| (name, ProjectShape::default()))
                .collect(),
        }
    }

    /// Adds the kind and mode of an issuer. In [`Mode::Audit`] all its rules are on trial.
    #[must_use]
    pub fn issuer(mut self, name: &str, kind: IssuerKind, mode: Mode) -> Self {
        self.issuers.insert(name.to_owned(), (kind, mode));
        self
    }

    /// Adds which projects a registry has.
    #[must_use]
    pub fn shape(mut self, registry: &RegistryName, shape: ProjectShape) -> Self {
        self.registries.insert(registry.clone(), shape);
        self
    }

    pub(super) fn shapes(&self) -> BTreeMap<RegistryName, ProjectShape> {
        self.registries.clone()
    }

    pub(super) fn knows_issuer(&self, name: &str) -> bool {
        self.issuers.contains_key(name)
    }

    pub(super) fn kind_of(&self, issuer: &str) -> IssuerKind {
        self.issuers.get(issuer).map(|(kind, _)| *kind).unwrap_or_default()
    }

    pub(super) fn is_on_trial(&self, issuer: &str) -> bool {
        self.issuers.get(issuer).is_some_and(|(_, mode)| *mode == Mode::Audit)
    }

    pub(super) fn registry(&self, name: &str) -> Option<&RegistryName> {
        self.registries.keys().find(|registry| registry.as_str() == name)
    }
}

/// A problem with a rule, and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleProblem {
    /// A JSON Pointer into the settings, such as `/rules/0/claims/ref`.
    pub path: String,
    pub message: String,
}

impl RuleProblem {
    pub(super) fn below(self, place: &str) -> Self {
        Self { path: format!("{place}{}", self.path), ..self }
    }
}

pub(super) fn rules(
    files: Vec<RuleFile>,
    guardrail: &Guardrail,
    known: &Known,
) -> Result<(Vec<Rule>, Vec<RuleProblem>), Vec<RuleProblem>> {
    let (mut rules, mut problems, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (index, file) in files.into_iter().enumerate() {
        let mut report = RuleReport::new("rule", index, &file.name);
        if !names.insert(file.name.clone()) {
            report.add(
                "/name",
                "has the name of an earlier rule; give it another name, because audit records \
                 identify rules by name",
            );
        }
        let rule = rule(file, known, &mut report);
        for (path, message) in guardrail.excesses(&rule) {
            report.add(path, message);
        }
        if report.problems.is_empty() {
            let kind = known.kind_of(&rule.issuer);
            let shapes: Vec<ProjectShape> = rule
                .registries
                .iter()
                .filter_map(|name| known.registries.get(name))
                .copied()
                .collect();
            for (path, message) in lint::warnings(&rule, kind, &shapes) {
                report.add(&path, message);
            }
            warnings.append(&mut report.problems);
            rules.push(rule);
        } else {
            problems.append(&mut report.problems);
        }
    }
    if problems.is_empty() { Ok((rules, warnings)) } else { Err(problems) }
}

/// Collects the problems of one rule or operator.
pub(super) struct RuleReport {
    place: String,
    whose: String,
    pub(super) problems: Vec<RuleProblem>,
}

impl RuleReport {
    /// `kind` is `rule` or `operator`.
    pub(super) fn new(kind: &str, index: usize, name: &str) -> Self {
        let (place, whose) = (format!("/{index}"), format!("{kind} `{name}`"));
        Self { place, whose, problems: Vec::new() }
    }

    pub(super) fn add(&mut self, path: &str, message: impl fmt::Display) {
        let path = format!("{}{path}", self.place);
        self.problems.push(RuleProblem { path, message: format!("{}: {message}", self.whose) });
    }
}

/// Parses the whole rule. The result is usable only if nothing was reported.
fn rule(file: RuleFile, known: &Known, report: &mut RuleReport) -> Rule {
    named(&file.name, &file.issuer, known, report);
    let allow: Rights = file.allow.into_iter().collect();
    if allow.is_empty() {
        report.add("/allow", "allows nothing; set `allow` to [\"pull\"], [\"push\"] or both");
    }
    let claims = conditions(file.claims, report);
    let projects = projects(file.projects, report);
    let registries = registries(&file.registries, known, report);
    let binds = claims.iter().any(Condition::binds_project);
    if file.catalog && (binds || !projects.contains(&ProjectMatcher::Any)) {
        report.add(
            "/catalog",
            "the catalog has the names of all projects; set `projects` to [\"*\"], and no \
             `{project}` in `claims`",
        );
    }
    let on_trial = known.is_on_trial(&file.issuer);
    let mode = if on_trial { Mode::Audit } else { file.mode };
    let RuleFile { name, issuer, catalog, .. } = file;
    Rule { name, issuer, claims, projects, registries, allow, catalog, mode }
}

/// Checks the name of a rule or operator, and the name of its issuer.
pub(super) fn named(name: &str, issuer: &str, known: &Known, report: &mut RuleReport) {
    let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !printable || name.trim().is_empty() || name.len() > 64 {
        report.add("/name", "`name` must have 1 to 64 printable ASCII characters");
    }
    if !known.knows_issuer(issuer) {
        let names = list(known.issuers.keys());
        let problem = format!(
            "unknown issuer `{issuer}`, expected the name of one of [[auth.issuers]]: {names}"
        );
        report.add("/issuer", problem);
    }
}

pub(super) fn conditions(
    files: BTreeMap<String, ClaimFile>,
    report: &mut RuleReport,
) -> Vec<Condition> {
    let stated = files.len();
    let mut conditions = Vec::new();
    for (name, file) in files {
        match Condition::parse(&name, file) {
            Ok(condition) => conditions.push(condition),
            Err(problem) => report.add(&format!("/claims/{}", escape(&name)), problem),
        }
    }
    // Every tenant of a public issuer can get a token for any audience. A rule that checks nothing
    // else would accept all of them.
    if conditions.len() == stated && !conditions.iter().any(Condition::constrains) {
        report.add(
            "/claims",
            "matches every token of the issuer; add a condition on a claim other than `aud` and \
             `iss` that is more than `*`, such as `claims = { repository = \"acme/{project}\" }`",
        );
    }
    conditions
}

fn projects(files: Vec<ProjectsFile>, report: &mut RuleReport) -> Vec<ProjectMatcher> {
    if files.is_empty() {
        report.add(
            "/projects",
            "covers no project; set `projects` to names, \"team/*\", { prefix = \"team-\" } or \
             \"*\"",
        );
    }
    let mut projects = Vec::new();
    for (index, file) in files.into_iter().enumerate() {
        match ProjectMatcher::try_from(file) {
            Ok(project) => projects.push(project),
            Err(problem) => report.add(&format!("/projects/{index}"), problem),
        }
    }
    projects
}

fn registries(names: &[String], known: &Known, report: &mut RuleReport) -> Vec<RegistryName> {
    if names.is_empty() {
        report.add(
            "/registries",
            "covers no registry; set `registries`, for example to [\"default\"]",
        );
    }
    let mut registries = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(registry) = known.registry(name) {
            registries.push(registry.clone());
        } else {
            let names = list(known.registries.keys());
            let problem = format!(
                "unknown registry `{name}`, expected the name of one of [registries]: {names}"
            );
            report.add(&format!("/registries/{index}"), problem);
        }
    }
    registries
}

/// RFC 6901.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn list<T: fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none is configured".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;

    fn parse(text: &str) -> Result<Rules, Vec<RuleProblem>> {
        #[derive(serde::Deserialize)]
        struct RulesFile {
            rules: Vec<RuleFile>,
        }
        let known = Known::new(["github"], ["prod"].map(|name| name.parse().unwrap()));
        Rules::parse(toml::from_str::<RulesFile>(text).unwrap().rules, &known)
    }

    fn with(line: &str) -> String {
        let key = line.split(' ').next().unwrap();
        let lines = [
            "name = 'a'",
            "issuer = 'github'",
            "claims = { sub = 'x' }",
            "projects = ['p']",
            "registries = ['prod']",
            "allow = ['pull']",
        ];
        let kept = lines.iter().filter(|line| line.split(' ').next() != Some(key)).chain([&line]);
        kept.fold("[[rules]]\n".to_owned(), |text, line| text + line + "\n")
    }

    #[test]
    fn each_gap_is_named_with_its_remedy() {
        for (line, path, part) in [
            ("name = ''", "/rules/0/name", "1 to 64"),
            ("name = \"a\\n\"", "/rules/0/name", "printable"),
            (
                "issuer = 'gitlab'",
                "/rules/0/issuer",
                "unknown issuer `gitlab`, expected the name of one of [[auth.issuers]]: `github`",
            ),
            ("claims = {}", "/rules/0/claims", "rule `a`: matches every token"),
            ("claims = { aud = 'rise-registry' }", "/rules/0/claims", "other than `aud`"),
            ("claims = { iss = 'x', '/aud/0' = 'y' }", "/rules/0/claims", "other than `aud`"),
            ("claims = { sub = { glob = '*/*' } }", "/rules/0/claims", "more than `*`"),
            (
                "claims = { sub = { prefix = 'acme' } }",
                "/rules/0/claims/sub",
                "rule `a`: claim `sub` must end in",
            ),
            (
                "claims = { '/k8s/ns' = '' }",
                "/rules/0/claims/~1k8s~1ns",
                "claim `/k8s/ns` is empty",
            ),
            ("claims = { sub = [] }", "/rules/0/claims/sub", "is empty"),
            ("projects = []", "/rules/0/projects", "rule `a`: covers no project"),
            ("projects = ['p', 'team-*']", "/rules/0/projects/1", "{ prefix = \"team-\" }"),
            ("projects = ['My-App']", "/rules/0/projects/0", "write `my-app`"),
            (
                "claims = { sub = { lower = 'Acme/{project}' } }",
                "/rules/0/claims/sub",
                "must be in lower case: `acme/{project}`",
            ),
            ("claims = { sub = { lower = 'acme' } }", "/rules/0/claims/sub", "has no `{project}`"),
            ("registries = []", "/rules/0/registries", "covers no registry"),
            (
                "registries = ['*']",
                "/rules/0/registries/0",
                "unknown registry `*`, expected the name of one of [registries]: `prod`",
            ),
            ("allow = []", "/rules/0/allow", "allows nothing"),
        ] {
            let problems = parse(&with(line)).unwrap_err();
            assert_eq!(problems.len(), 1, "{line}: {problems:?}");
            assert_eq!(problems[0].path, path, "{line}");
            assert!(problems[0].message.contains(part), "{line}: {}", problems[0].message);
        }
    }

    #[test]
    fn what_is_left_out_is_nothing_and_all_problems_come_at_once() {
        let problems = parse(
            "[[rules]]\nname = 'a'\nissuer = 'x'\n[[rules]]\nname = 'a'\nissuer = 'github'\n",
        )
        .unwrap_err();
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/rules/0/issuer",
                "/rules/0/allow",
                "/rules/0/claims",
                "/rules/0/projects",
                "/rules/0/registries",
                "/rules/1/name",
                "/rules/1/allow",
                "/rules/1/claims",
                "/rules/1/projects",
                "/rules/1/registries"
            ]
        );
    }

    #[test]
    fn what_nothing_stands_for_does_not_load() {
        for (line, part) in [
            ("claims = { sub = 1.5 }", "expected text, a whole number, `true`, `false`"),
            ("claims = { sub = { regex = '.*' } }", "expected text"),
            ("claims = { sub = { prefix = 'a/', glob = 'b' } }", "expected text"),
            ("claims = { sub = [true] }", "expected text"),
            ("projects = [{ glob = '*' }]", "expected the name of a project"),
            ("projects = '*'", "expected a sequence"),
            ("allow = ['write']", "expected one of `pull`, `push`, `create`, `delete`"),
            ("surprise = 1", "unknown field `surprise`"),
        ] {
            let text = with(line).replace("[[rules]]\n", "");
            let error = toml::from_str::<RuleFile>(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn what_is_probably_not_meant_is_warned_about() {
        for (claims, allow, warnings) in [
            ("{ sub = 'x' }", "['push']", vec!["/rules/0/projects"]),
            ("{ sub = 'x' }", "['pull']", vec![]),
            ("{ sub = 'x' }", "['create']", vec!["/rules/0/projects"]),
            ("{ sub = 'x' }", "['pull', 'delete']", vec!["/rules/0/projects"]),
            ("{ sub = 'x/{project}' }", "['create', 'delete']", vec![]),
            ("{ sub = 'x/{project}' }", "['push']", vec![]),
            ("{ sub = ['x/{project}', 'y'] }", "['push']", vec!["/rules/0/projects"]),
            ("{ sub = { glob = 'x/{project}/*' } }", "['push']", vec![]),
            ("{ ref = 'refs/heads/*' }", "['pull']", vec!["/rules/0/claims/ref"]),
            ("{ sub = { lower = 'x/{project}' } }", "['push']", vec!["/rules/0/claims/sub"]),
        ] {
            let text = with("projects = ['*']")
                .replace("{ sub = 'x' }", claims)
                .replace("['pull']", allow);
            let rules = parse(&text).unwrap();
            let paths: Vec<&str> =
                rules.warnings().iter().map(|warning| warning.path.as_str()).collect();
            assert_eq!(paths, warnings, "{claims} {allow}");
        }
        assert!(parse(&with("allow = ['push']")).unwrap().warnings().is_empty());
        let deep = parse(&with("projects = ['p', 'team/*', { prefix = 'team/' }]")).unwrap();
        let paths: Vec<&str> =
            deep.warnings().iter().map(|warning| warning.path.as_str()).collect();
        assert_eq!(paths, ["/rules/0/projects/1", "/rules/0/projects/2"]);
    }
}
