//! The central policy that no rule may exceed, whoever writes the rules.
//!
//! A rule that exceeds it by itself is an error at start. A rule for `*` is valid; each request is
//! then checked, and changes of protected projects are denied.

use std::collections::BTreeMap;

use super::condition::Condition;
use super::file::GuardrailFile;
use super::parse::{Known, RuleProblem};
use super::projects::ProjectMatcher;
use super::rule::Rule;
use crate::domain::{ClaimPath, Project, RegistryName, Rights};

#[derive(Clone, Debug, Default)]
pub struct Guardrail {
    deny_push: Vec<ProjectMatcher>,
    /// The allowed rights by registry.
    allow: BTreeMap<RegistryName, Rights>,
    /// The required claims by issuer.
    claims: BTreeMap<String, Vec<ClaimPath>>,
}

impl Guardrail {
    /// The paths of the problems are relative to `/limits/policy`.
    pub(super) fn parse(file: GuardrailFile, known: &Known) -> Result<Self, Vec<RuleProblem>> {
        let (mut guardrail, mut problems) = (Self::default(), Vec::new());
        let mut add = |path: String, message: String| problems.push(RuleProblem { path, message });
        for (index, projects) in file.deny_push_projects.into_iter().enumerate() {
            match ProjectMatcher::try_from(projects) {
                Ok(projects) => guardrail.deny_push.push(projects),
                Err(message) => add(format!("/deny_push_projects/{index}"), message),
            }
        }
        for (name, actions) in file.allow {
            match known.registry(&name) {
                Some(registry) => {
                    guardrail.allow.insert(registry.clone(), actions.into_iter().collect());
                }
                None => add(
                    format!("/allow/{name}"),
                    format!("unknown registry `{name}`, expected the name of one of [registries]"),
                ),
            }
        }
        for (issuer, names) in file.require_claims {
            if !known.knows_issuer(&issuer) {
                add(
                    format!("/require_claims/{issuer}"),
                    format!(
                        "unknown issuer `{issuer}`, expected the name of one of [[auth.issuers]]"
                    ),
                );
            }
            let mut paths = Vec::new();
            for (index, name) in names.iter().enumerate() {
                match ClaimPath::parse(name) {
                    Ok(path) => paths.push(path),
                    Err(problem) => add(
                        format!("/require_claims/{issuer}/{index}"),
                        format!("claim `{name}` {problem}"),
                    ),
                }
            }
            guardrail.claims.insert(issuer, paths);
        }
        if problems.is_empty() { Ok(guardrail) } else { Err(problems) }
    }

    /// Removes the rights that nobody has for this project. Where nobody may push, nobody may
    /// create or delete the repository either: both change what others pull.
    pub(super) fn restrict(&self, rights: Rights, project: &Project) -> Rights {
        if self.denies_changes(project) { rights.read_only() } else { rights }
    }

    pub fn denies_changes(&self, project: &Project) -> bool {
        self.deny_push.iter().any(|denied| denied.matches(project))
    }

    /// Returns where a rule exceeds the policy: the key of the rule and a message.
    pub(super) fn excesses(&self, rule: &Rule) -> Vec<(&'static str, String)> {
        let changes = rule.allow.changes();
        let is_denied =
            |projects: &ProjectMatcher| self.deny_push.iter().any(|all| projects.is_within(all));
        let denied = rule.projects.iter().filter(|it| !changes.is_empty() && is_denied(it));
        let projects = denied.map(|projects| {
            (
                "/projects",
                format!(
                    "allows {changes} for `{projects}`, which [limits.policy] \
                     `deny_push_projects` forbids; remove these projects or these actions"
                ),
            )
        });
        let most = |name: &RegistryName| {
            self.allow.get(name).filter(|most| !rule.allow.is_subset_of(**most))
        };
        let registries = rule.registries.iter().filter_map(|name| {
            let most = most(name)?;
            Some((
                "/allow",
                format!(
                    "allows {} in registry `{name}`, but [limits.policy] `allow` permits only \
                     {most} there; remove the other actions or the registry",
                    rule.allow
                ),
            ))
        });
        let required = self.claims.get(&rule.issuer).into_iter().flatten();
        let has = |path: &ClaimPath| {
            rule.claims.iter().any(|condition: &Condition| condition.path().is_same_as(path))
        };
        let claims = required.filter(|path| !has(path)).map(|path| {
            let message = format!(
                "has no condition on `{path}`, which [limits.policy] `require_claims` requires for \
                 issuer `{}`; add one",
                rule.issuer
            );
            ("/claims", message)
        });
        projects.chain(registries).chain(claims).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Actions, Lifetime, RepositoryOperation, Subject};
    use crate::rules::{AccessRequest, OperatorFile, Operators, RuleFile, Rules};

    fn parse(rule: &str, policy: &str) -> Result<Rules, Vec<String>> {
        let base = "name = 'a'\nissuer = 'github'\nclaims = { repository = 'acme/{project}' }\n\
            projects = ['*']\nregistries = ['prod']\nallow = ['pull', 'push']";
        let key = rule.split(' ').next().unwrap();
        let lines = base.lines().filter(|line| line.split(' ').next() != Some(key)).chain([rule]);
        let rule: RuleFile = toml::from_str(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        let known = Known::new(["github"], ["prod", "dev"].map(|name| name.parse().unwrap()));
        Rules::parse_within(vec![rule], toml::from_str(policy).unwrap(), &known)
            .map_err(|problems| problems.into_iter().map(|problem| problem.path).collect())
    }

    #[test]
    fn a_rule_that_exceeds_it_is_an_error() {
        let deny = "deny_push_projects = ['base', { prefix = 'infra-' }]";
        for (rule, policy, path) in [
            ("projects = ['base']", deny, Some("/rules/0/projects")),
            ("projects = ['x', 'infra-dns']", deny, Some("/rules/0/projects")),
            ("projects = [{ prefix = 'infra-dns-' }]", deny, Some("/rules/0/projects")),
            ("projects = ['*']", deny, None),
            ("projects = ['base-2']", deny, None),
            ("projects = ['*']", "deny_push_projects = ['*']", Some("/rules/0/projects")),
            ("allow = ['pull']", "deny_push_projects = ['*']", None),
            ("allow = ['create']", "deny_push_projects = ['*']", Some("/rules/0/projects")),
            ("allow = ['delete']", "deny_push_projects = ['*']", Some("/rules/0/projects")),
            ("allow = ['create']", "allow = { prod = ['pull', 'push'] }", Some("/rules/0/allow")),
            ("allow = ['delete']", "allow = { prod = ['create'] }", Some("/rules/0/allow")),
            ("allow = ['create']", "allow = { prod = ['create', 'delete'] }", None),
            ("allow = ['push']", "allow = { prod = ['pull'] }", Some("/rules/0/allow")),
            ("allow = ['pull']", "allow = { prod = ['pull'] }", None),
            ("allow = ['push']", "allow = { dev = ['pull'] }", None),
            (
                "name = 'a'",
                "require_claims = { github = ['repository_id'] }",
                Some("/rules/0/claims"),
            ),
            ("name = 'a'", "require_claims = { github = ['/repository'] }", None),
            (
                "name = 'a'",
                "require_claims = { gitlab = ['x'] }",
                Some("/limits/policy/require_claims/gitlab"),
            ),
            ("name = 'a'", "allow = { none = [] }", Some("/limits/policy/allow/none")),
            (
                "name = 'a'",
                "deny_push_projects = ['A']",
                Some("/limits/policy/deny_push_projects/0"),
            ),
        ] {
            let found = parse(rule, policy).err().unwrap_or_default();
            assert_eq!(
                found,
                path.map(str::to_owned).into_iter().collect::<Vec<_>>(),
                "{rule} {policy}"
            );
        }
    }

    #[test]
    fn an_operator_may_what_no_rule_may_but_changes_nothing_that_nobody_may_push_to() {
        let policy = "allow = { prod = ['pull'] }\ndeny_push_projects = ['base']";
        let mut rules = parse("allow = ['pull']", policy).unwrap();
        let operator: OperatorFile = toml::from_str(
            "name = 'keepers'\nissuer = 'github'\nclaims = { repository = 'acme/ops' }\n\
             allow = ['repositories']",
        )
        .unwrap();
        let operators = Operators::parse(vec![operator], &Known::new(["github"], []));
        rules.set_operators(operators.unwrap());
        let may_create = |repository: &str, project: &str| {
            let request = request(project, None);
            let operation = RepositoryOperation::Create;
            rules.authorize_repository(subject(repository), request, operation).is_ok()
        };
        assert!(may_create("acme/ops", "my-app"));
        assert!(!may_create("acme/ops", "base"));
        assert!(!may_create("acme/my-app", "my-app"));
    }

    fn subject(repository: &str) -> Subject {
        let claims = serde_json::json!({ "repository": repository });
        let claims = claims.as_object().unwrap().clone();
        Subject { issuer: "github".into(), sub: "s".into(), claims }
    }

    fn request(project: &str, actions: Option<Actions>) -> AccessRequest {
        AccessRequest {
            id: ulid::Ulid::nil(),
            registry: "prod".parse().unwrap(),
            project: project.parse().unwrap(),
            actions,
            lifetime: Lifetime::default(),
            client: None,
        }
    }

    #[test]
    fn a_rule_for_all_does_not_reach_what_nobody_may_push_to() {
        let rules = parse("name = 'a'", "deny_push_projects = ['base']").unwrap();
        let decide = |project: &str, actions| {
            rules
                .authorize(subject(&format!("acme/{project}")), request(project, actions))
                .map(|grant| grant.actions())
                .map_err(|denied| denied.refusals[0].because.clone())
        };
        assert_eq!(decide("base-2", None), Ok(Actions::PULL_AND_PUSH));
        assert_eq!(decide("base", None), Ok(Actions::PULL));
        let denied = decide("base", Some(Actions::PUSH)).unwrap_err();
        assert_eq!(denied, "[limits.policy] allows only pull of the project");
    }
}
