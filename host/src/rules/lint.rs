//! Warnings about rules that are valid but probably wider than intended.
//!
//! To support the tokens of another service, add an [`IssuerKind`] and the claims that its rules
//! should check.

use super::condition::Condition;
use super::parse::escape;
use super::projects::ProjectMatcher;
use super::rule::Rule;
use super::vocabulary;
use crate::domain::ProjectShape;

/// The service that issues the tokens, if it is a known one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IssuerKind {
    GithubActions,
    Gitlab,
    Kubernetes,
    Buildkite,
    Google,
    Aws,
    Circleci,
    Bitbucket,
    #[default]
    Other,
}

impl IssuerKind {
    /// Claims that keep their meaning when a name is given up and taken over by somebody else.
    fn immutable(self) -> &'static [&'static str] {
        match self {
            Self::GithubActions => &["repository_id", "repository_owner_id"],
            Self::Gitlab => &["project_id", "namespace_id"],
            Self::Kubernetes => &["/kubernetes.io/serviceaccount/uid"],
            Self::Google => &["sub"],
            Self::Buildkite => &["organization_id", "pipeline_id"],
            Self::Bitbucket => &["repositoryUuid", "workspaceUuid"],
            Self::Circleci => &["oidc.circleci.com/project-id"],
            // An account's number is nobody else's, and its roles are its owner's.
            Self::Aws | Self::Other => &[],
        }
    }

    /// Claims whose values never differ in upper case only: the service gives such a name once.
    fn unique_in_lower_case(self) -> &'static [&'static str] {
        match self {
            Self::GithubActions => &["repository", "repository_owner"],
            Self::Gitlab => &["project_path", "namespace_path"],
            Self::Kubernetes => &["/kubernetes.io/namespace", "/kubernetes.io/serviceaccount/name"],
            Self::Buildkite
            | Self::Google
            | Self::Aws
            | Self::Circleci
            | Self::Bitbucket
            | Self::Other => &[],
        }
    }

    /// Claims that name who owns the repository or account. Tokens of all tenants of the public
    /// service have the same issuer.
    fn owning(self) -> &'static [&'static str] {
        match self {
            Self::GithubActions => &[
                "actor",
                "actor_id",
                "enterprise",
                "enterprise_id",
                "repository",
                "repository_id",
                "repository_owner",
                "repository_owner_id",
                "sub",
                "workflow_ref",
            ],
            Self::Buildkite => &[
                "agent_id",
                "cluster_id",
                "organization_id",
                "organization_slug",
                "pipeline_id",
                "sub",
            ],
            Self::Google => &["email", "hd", "sub"],
            // These are issuers of one organization, account or cluster, or may be.
            Self::Gitlab
            | Self::Kubernetes
            | Self::Aws
            | Self::Circleci
            | Self::Bitbucket
            | Self::Other => &[],
        }
    }

    /// Claims that identify the code that runs. A rule without one allows every branch.
    fn protecting(self) -> &'static [&'static str] {
        match self {
            Self::GithubActions => &["ref", "ref_protected", "environment", "job_workflow_ref"],
            Self::Gitlab => &[
                "ref",
                "ref_path",
                "ref_protected",
                "environment",
                "environment_protected",
                "deployment_tier",
            ],
            Self::Buildkite => &["build_branch", "build_tag"],
            Self::Circleci => &["oidc.circleci.com/vcs-ref", "oidc.circleci.com/context-ids"],
            Self::Bitbucket => &["branchName", "tagName", "deploymentEnvironmentUuid"],
            Self::Kubernetes | Self::Google | Self::Aws | Self::Other => &[],
        }
    }
}

/// Returns pairs of a key relative to `/rules/N` and a message.
/// `shapes` are the projects of the rule's registries.
pub(super) fn warnings(
    rule: &Rule,
    kind: IssuerKind,
    shapes: &[ProjectShape],
) -> Vec<(String, String)> {
    let mut warnings = Vec::new();
    let mut warn = |path: &str, message: String| warnings.push((path.to_owned(), message));
    let changes = rule.allow.changes();
    let binds = rule.claims.iter().any(Condition::binds_project);
    if rule.projects.contains(&ProjectMatcher::Any) && !changes.is_empty() && !binds {
        warn(
            "/projects",
            format!(
                "allows {changes} on every project to every matching caller; use `{{project}}` in \
                 a claim, or list the projects"
            ),
        );
    }
    let protecting = kind.protecting();
    if !changes.is_empty()
        && !protecting.is_empty()
        && !looks_at(rule, protecting)
        && !has_sub(rule, ":ref:")
        && !has_sub(rule, ":environment:")
    {
        warn(
            "/claims",
            format!(
                "allows {changes} from every branch, including branches that anybody with write \
                 access creates; add a condition on one of {}",
                list(protecting)
            ),
        );
    }
    warnings.extend(of_claims(rule, kind));
    warnings.extend(absent(rule, shapes));
    warnings
}

/// The warnings about conditions, whatever they are for.
pub(super) fn of_claims(rule: &Rule, kind: IssuerKind) -> Vec<(String, String)> {
    let mut warnings = Vec::new();
    for condition in &rule.claims {
        if let Some(mistake) = vocabulary::mistake(condition, kind) {
            warnings.push((format!("/claims/{}", escape(condition.name())), mistake));
        }
    }
    warnings.extend(unowned(rule, kind));
    warnings.extend(literal_stars(rule));
    warnings.extend(doubtful(rule, kind));
    warnings
}

fn looks_at(rule: &Rule, names: &[&str]) -> bool {
    rule.claims.iter().any(|condition| names.contains(&condition.name()))
}

/// `sub` may contain a branch (`:ref:`), an environment, and since 2026 GitHub's ids
/// (`acme@123/app@456`).
fn has_sub(rule: &Rule, part: &str) -> bool {
    rule.claims.iter().any(|condition| condition.name() == "sub" && condition.mentions(part))
}

/// A rule that strangers meet, today or when they take over a name.
fn unowned(rule: &Rule, kind: IssuerKind) -> Option<(String, String)> {
    let (owning, immutable) = (kind.owning(), kind.immutable());
    let by_id = kind == IssuerKind::GithubActions && has_sub(rule, "@");
    let problem = if !owning.is_empty() && !looks_at(rule, owning) {
        format!(
            "names no owner, so everybody in the world who uses this service meets it with an \
             account of their own; add a condition on one of {}",
            list(owning)
        )
    } else if !immutable.is_empty() && !looks_at(rule, immutable) && !by_id {
        format!(
            "uses only names, which somebody else can take over later; add a condition on one \
             of {}",
            list(immutable)
        )
    } else {
        return None;
    };
    Some(("/claims".to_owned(), problem))
}

/// Texts with a `*` that stands for nothing but itself.
fn literal_stars(rule: &Rule) -> Vec<(String, String)> {
    let starred = rule.claims.iter().filter(|condition| condition.has_literal_star());
    let warning = |condition: &Condition| {
        let name = condition.name();
        let problem = format!(
            "claim `{name}` has a `*` that is a literal character here; write {{ glob = … }} to \
             match a segment"
        );
        (format!("/claims/{}", escape(name)), problem)
    };
    starred.map(warning).collect()
}

/// Projects that none of the rule's registries has.
fn absent(rule: &Rule, shapes: &[ProjectShape]) -> Vec<(String, String)> {
    let all = rule.projects.iter().enumerate();
    let absent = all.filter(|(_, projects)| !shapes.iter().any(|shape| projects.fits(*shape)));
    let warning = |(index, projects): (usize, &ProjectMatcher)| {
        let problem = format!(
            "`{projects}` is in none of its registries; raise their `project_depth`, write it \
             without the prefix that the registry adds, or remove it"
        );
        (format!("/projects/{index}"), problem)
    };
    absent.map(warning).collect()
}

/// Claims in lower case whose values may differ in upper case only.
fn doubtful(rule: &Rule, kind: IssuerKind) -> Vec<(String, String)> {
    let unique = kind.unique_in_lower_case();
    let doubtful =
        rule.claims.iter().filter(|claim| claim.is_lower() && !unique.contains(&claim.name()));
    let warning = |condition: &Condition| {
        let name = condition.name();
        let problem = format!(
            "claim `{name}` is compared in lower case, so callers whose claim differs only in that \
             share a project; make sure that the issuer gives no two names such as `App` and `app`"
        );
        (format!("/claims/{}", escape(name)), problem)
    };
    doubtful.map(warning).collect()
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Known, Mode, RuleFile, Rules};

    fn warned(kind: IssuerKind, claims: &str, allow: &str) -> Vec<String> {
        let text = format!(
            "name = 'a'\nissuer = 'i'\nclaims = {claims}\nprojects = ['p']\n\
             registries = ['prod']\nallow = {allow}"
        );
        let known = Known::new([] as [&str; 0], ["prod".parse().unwrap()]);
        let known = known.issuer("i", kind, Mode::Enforce);
        let rules = Rules::parse(vec![toml::from_str::<RuleFile>(&text).unwrap()], &known).unwrap();
        let kinds = [
            ("from every branch", "branch"),
            ("uses only names", "names"),
            ("names no owner", "anybody"),
            ("in lower case", "lower"),
        ];
        let warnings = rules.warnings().iter().map(|warning| {
            let found = kinds.iter().find(|(part, _)| warning.message.contains(part));
            found.unwrap_or_else(|| panic!("{warning}")).1.to_owned()
        });
        warnings.collect()
    }

    #[test]
    fn a_push_needs_a_branch_and_a_name_an_id() {
        use IssuerKind::{
            Aws, Bitbucket, Buildkite, Circleci, GithubActions, Gitlab, Google, Kubernetes, Other,
        };
        for (kind, claims, allow, warnings) in [
            (GithubActions, "{ repository = 'acme/p' }", "['push']", &["branch", "names"][..]),
            (GithubActions, "{ repository = 'acme/p' }", "['pull']", &["names"]),
            (GithubActions, "{ repository_id = '1' }", "['push']", &["branch"]),
            (GithubActions, "{ repository_id = '1' }", "['create']", &["branch"]),
            (GithubActions, "{ repository_id = '1' }", "['pull', 'delete']", &["branch"]),
            (
                GithubActions,
                "{ repository_id = '1', event_name = 'push' }",
                "['push']",
                &["branch"],
            ),
            (GithubActions, "{ repository_id = '1', ref = 'refs/heads/main' }", "['push']", &[]),
            (
                GithubActions,
                "{ repository = 'acme/p', repository_owner_id = '1', environment = 'prod' }",
                "['push']",
                &[],
            ),
            (GithubActions, "{ sub = 'repo:acme/p:ref:refs/heads/main' }", "['push']", &["names"]),
            (GithubActions, "{ sub = 'repo:acme@1/p@2:environment:prod' }", "['push']", &[]),
            (GithubActions, "{ repository_owner_id = '1' }", "['pull']", &[]),
            (Gitlab, "{ project_path = 'acme/p' }", "['push']", &["branch", "names"]),
            (Gitlab, "{ project_id = '1', ref_protected = 'true' }", "['push']", &[]),
            (Kubernetes, "{ '/kubernetes.io/namespace' = 'ci' }", "['push']", &["names"]),
            (Kubernetes, "{ '/kubernetes.io/serviceaccount/uid' = 'x' }", "['push']", &[]),
            (Google, "{ email = 'a@b.c' }", "['push']", &["names"]),
            (Google, "{ sub = '1' }", "['push']", &[]),
            (Other, "{ repository = 'acme/p' }", "['push']", &[]),
            (
                GithubActions,
                "{ repository = { lower = 'acme/{project}' }, repository_owner_id = '1' }",
                "['pull']",
                &[],
            ),
            (
                GithubActions,
                "{ ref = { lower = 'refs/heads/{project}' }, repository_owner_id = '1' }",
                "['pull']",
                &["lower"],
            ),
            (
                Gitlab,
                "{ project_path = { lower = 'acme/{project}' }, namespace_id = '1' }",
                "['pull']",
                &[],
            ),
            (Other, "{ repository = { lower = 'acme/{project}' } }", "['push']", &["lower"]),
            (Buildkite, "{ pipeline_id = '1', build_branch = 'main' }", "['push']", &[]),
            (Bitbucket, "{ repositoryUuid = '1' }", "['push']", &["branch"]),
            (Bitbucket, "{ workspaceUuid = '1', branchName = 'main' }", "['push']", &[]),
            (Circleci, "{ 'oidc.circleci.com/project-id' = '1' }", "['push']", &["branch"]),
            (Aws, "{ sub = 'arn:aws:iam::1:role/ci' }", "['push']", &[]),
        ] {
            assert_eq!(warned(kind, claims, allow), warnings, "{kind:?} {claims} {allow}");
        }
    }

    #[test]
    fn a_rule_for_everybody_in_the_world_is_told() {
        use IssuerKind::{Buildkite, GithubActions, Gitlab};
        for (kind, claims, warnings) in [
            (GithubActions, "{ ref = 'refs/heads/main' }", &["anybody"][..]),
            (GithubActions, "{ job_workflow_ref = 'a/b/c@d', environment = 'x' }", &["anybody"]),
            (GithubActions, "{ repository_visibility = 'public' }", &["anybody"]),
            (GithubActions, "{ repository_owner = 'acme' }", &["names"]),
            (Buildkite, "{ pipeline_slug = 'p' }", &["anybody"]),
            (Buildkite, "{ organization_slug = 'o', pipeline_slug = 'p' }", &["names"]),
            // It may be the company's own server.
            (Gitlab, "{ namespace_id = '1', ref_protected = 'true' }", &[]),
        ] {
            assert_eq!(warned(kind, claims, "['pull']"), warnings, "{kind:?} {claims}");
        }
    }
}
