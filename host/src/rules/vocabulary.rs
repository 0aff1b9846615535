//! The claims that tokens of well-known issuers have, and how they are written.
//!
//! A condition on a claim that the issuer never sends, or on a value that it never writes, matches
//! nobody. That is safe, and a mistake that nothing else reports.
//!
//! To add an issuer: a list here. A claim that an issuer has added since only causes a warning.

use strsim::levenshtein;

use super::condition::Condition;
use super::forms::expected_form;
use super::lint::IssuerKind;

/// Claims of every token.
const REGISTERED: &[&str] = &["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

const GITHUB: &[&str] = &[
    "actor",
    "actor_id",
    "base_ref",
    "check_run_id",
    "enterprise",
    "enterprise_id",
    "environment",
    "environment_node_id",
    "event_name",
    "head_ref",
    "issuer_scope",
    "job_workflow_ref",
    "job_workflow_sha",
    "ref",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "run_attempt",
    "run_id",
    "run_number",
    "runner_environment",
    "sha",
    "workflow",
    "workflow_ref",
    "workflow_sha",
];

const GITLAB: &[&str] = &[
    "ci_config_ref_uri",
    "ci_config_sha",
    "deployment_tier",
    "environment",
    "environment_action",
    "environment_protected",
    "groups_direct",
    "job_config",
    "job_id",
    "job_namespace_id",
    "job_namespace_path",
    "job_project_id",
    "job_project_path",
    "job_source",
    "namespace_id",
    "namespace_path",
    "pipeline_id",
    "pipeline_source",
    "project_id",
    "project_path",
    "project_visibility",
    "ref",
    "ref_path",
    "ref_protected",
    "ref_type",
    "runner_environment",
    "runner_id",
    "sha",
    "user_access_level",
    "user_email",
    "user_id",
    "user_identities",
    "user_login",
];

const KUBERNETES: &[&str] = &["kubernetes.io"];
const KUBERNETES_MEMBERS: &[&str] =
    &["namespace", "node", "pod", "secret", "serviceaccount", "warnafter"];

const BUILDKITE: &[&str] = &[
    "agent_id",
    "agent_tags",
    "build_branch",
    "build_commit",
    "build_id",
    "build_number",
    "build_source",
    "build_tag",
    "cluster_id",
    "cluster_name",
    "job_id",
    "organization_id",
    "organization_slug",
    "pipeline_id",
    "pipeline_slug",
    "queue_id",
    "queue_key",
    "runner_environment",
    "step_key",
];

const GOOGLE: &[&str] = &[
    "at_hash",
    "azp",
    "email",
    "email_verified",
    "family_name",
    "given_name",
    "google",
    "hd",
    "locale",
    "name",
    "nonce",
    "picture",
    "profile",
];

const AWS: &[&str] = &["https://sts.amazonaws.com/"];

const CIRCLECI: &[&str] = &[
    "oidc.circleci.com/context-ids",
    "oidc.circleci.com/job-id",
    "oidc.circleci.com/org-id",
    "oidc.circleci.com/pipeline-definition-id",
    "oidc.circleci.com/pipeline-id",
    "oidc.circleci.com/project-id",
    "oidc.circleci.com/ssh-rerun",
    "oidc.circleci.com/vcs-origin",
    "oidc.circleci.com/vcs-ref",
    "oidc.circleci.com/workflow-id",
];

const BITBUCKET: &[&str] = &[
    "branchName",
    "deploymentEnvironmentUuid",
    "pipelineRunUuid",
    "pipelineUuid",
    "pullRequestId",
    "repositoryUuid",
    "stepUuid",
    "tagName",
    "workspaceUuid",
];

impl IssuerKind {
    /// The service, and the claims of its tokens. `None`: users define claims.
    fn vocabulary(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::GithubActions => Some(("GitHub Actions", GITHUB)),
            Self::Gitlab => Some(("GitLab", GITLAB)),
            Self::Kubernetes => Some(("Kubernetes", KUBERNETES)),
            Self::Buildkite => Some(("Buildkite", BUILDKITE)),
            Self::Google => Some(("Google", GOOGLE)),
            Self::Aws => Some(("AWS STS", AWS)),
            Self::Circleci => Some(("CircleCI", CIRCLECI)),
            Self::Bitbucket => Some(("Bitbucket", BITBUCKET)),
            Self::Other => None,
        }
    }

    /// Whether the service writes this claim as text: `"true"` or `"false"`, a name, or an id.
    fn writes_text(self, claim: &str) -> bool {
        match self {
            Self::GithubActions => !REGISTERED.contains(&claim) && claim != "check_run_id",
            Self::Gitlab => {
                matches!(claim, "ref_protected" | "environment_protected")
                    || (claim.ends_with("_id") && claim != "runner_id")
            }
            Self::Kubernetes
            | Self::Buildkite
            | Self::Google
            | Self::Aws
            | Self::Circleci
            | Self::Bitbucket
            | Self::Other => false,
        }
    }
}

/// Why no token of the issuer has a claim of this name, as far as that is known.
pub fn missing_claim(kind: IssuerKind, name: &str) -> Option<String> {
    let (service, claims) = kind.vocabulary()?;
    let is_known = claims.contains(&name) || REGISTERED.contains(&name) || is_custom(name);
    (!is_known).then(|| {
        let advice = nearest(name, claims);
        format!("claim `{name}` is none that tokens of {service} are known to have; {advice}")
    })
}

/// GitHub adds one claim for each custom property of a repository.
fn is_custom(name: &str) -> bool {
    name.starts_with("repository_property_") || name.starts_with("properties_")
}

/// Why no token of the issuer meets the condition, as far as that is known.
pub(super) fn mistake(condition: &Condition, kind: IssuerKind) -> Option<String> {
    let (service, claims) = kind.vocabulary()?;
    absent(condition, service, claims)
        .or_else(|| other_type(condition, kind, service))
        .or_else(|| other_reference(condition, kind))
        .or_else(|| {
            let name = condition.name();
            let texts = condition.exact_texts();
            let mut texts = texts.iter();
            let wrong = texts.find_map(|text| Some((text, expected_form(kind, name, text)?)));
            wrong.map(|(text, form)| {
                format!("claim `{name}` of {service} is {form}, so `{text}` matches nobody")
            })
        })
}

/// A claim that the tokens do not have.
fn absent(condition: &Condition, service: &str, claims: &[&str]) -> Option<String> {
    let (name, first) = (condition.name(), condition.path().first());
    if !claims.contains(&first) && !REGISTERED.contains(&first) && !is_custom(first) {
        let advice = if claims.iter().any(|known| name.starts_with(&format!("{known}/"))) {
            format!("write `/{name}`, with a `/` in front")
        } else {
            nearest(first, claims)
        };
        return Some(format!(
            "claim `{name}` is none that tokens of {service} are known to have, so the rule \
             matches nobody; {advice}"
        ));
    }
    let unknown = condition.path().second().filter(|member| !KUBERNETES_MEMBERS.contains(member));
    if let Some(member) = unknown.filter(|_| first == "kubernetes.io") {
        let advice = nearest(member, KUBERNETES_MEMBERS);
        return Some(format!(
            "claim `{name}`: `kubernetes.io` is not known to have a member `{member}`, so the rule \
             matches nobody; {advice}"
        ));
    }
    None
}

/// A claim that the tokens have as text.
fn other_type(condition: &Condition, kind: IssuerKind, service: &str) -> Option<String> {
    let (name, first) = (condition.name(), condition.path().first());
    if condition.is_truth() && kind.writes_text(first) {
        return Some(format!(
            "claim `{name}` is compared with a boolean, and {service} sends it as text, so the \
             rule matches nobody; write \"true\" or \"false\" in quotes"
        ));
    }
    if condition.is_number() && kind.writes_text(first) {
        return Some(format!(
            "claim `{name}` is compared with a number, and {service} sends it as text, so the rule \
             matches nobody; write the number in quotes"
        ));
    }
    None
}

/// A branch or tag that the service names in another way.
fn other_reference(condition: &Condition, kind: IssuerKind) -> Option<String> {
    let first = condition.path().first();
    let is_full = ["refs/", "{project}"];
    // `*` alone is one segment, and a full name has three.
    let is_short = |text: &str| {
        !is_full.iter().any(|start| text.starts_with(start)) && !text.starts_with("*/")
    };
    if kind == IssuerKind::GithubActions
        && first == "ref"
        && condition.texts().all(|text| is_short(&text))
    {
        return condition.texts().next().map(|text| {
            format!(
                "claim `ref` of GitHub Actions begins with `refs/`, so the rule matches nobody; \
                 write \"refs/heads/{text}\" for a branch, or \"refs/tags/{text}\" for a tag"
            )
        });
    }
    if kind == IssuerKind::Gitlab && first == "ref" {
        let full = condition.texts().find(|text| text.starts_with("refs/"));
        return full.map(|text| {
            let short = text.splitn(3, '/').nth(2).unwrap_or_default();
            format!(
                "claim `ref` of GitLab is a short name, so `{text}` matches nobody; write \
                 \"{short}\", or use the claim `ref_path`"
            )
        });
    }
    None
}

/// Advice to use the most similar of the known names, or one of them if none is similar.
fn nearest(name: &str, known: &[&str]) -> String {
    let similar = known.iter().filter(|known| levenshtein(name, known) <= 2);
    match similar.min_by_key(|known| levenshtein(name, known)) {
        Some(meant) => format!("write `{meant}`"),
        None => format!("its claims are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::file::ClaimFile;

    fn warned(kind: IssuerKind, name: &str, value: &str) -> Option<String> {
        let file: std::collections::BTreeMap<String, ClaimFile> =
            toml::from_str(&format!("v = {value}")).unwrap();
        let file = file.into_values().next().unwrap();
        mistake(&Condition::parse(name, file).unwrap(), kind)
    }

    #[test]
    fn what_no_token_has_is_a_mistake() {
        use IssuerKind::{Aws, Bitbucket, GithubActions, Gitlab, Kubernetes, Other};
        for (kind, name, value, part) in [
            (GithubActions, "repositry", "'acme/a'", "write `repository`"),
            (GithubActions, "branch", "'main'", "its claims are actor"),
            (GithubActions, "ref", "'main'", "refs/heads/main"),
            (GithubActions, "ref", "['main', 'v1']", "refs/heads/main"),
            (GithubActions, "ref_protected", "true", "in quotes"),
            (GithubActions, "repository_owner_id", "9919", "write the number in quotes"),
            (Gitlab, "project_id", "[1, 2]", "write the number in quotes"),
            (GithubActions, "/repositry", "'a'", "write `repository`"),
            (Gitlab, "ref", "'refs/heads/main'", "write \"main\""),
            (Gitlab, "ref_protected", "false", "in quotes"),
            (Gitlab, "project_pth", "'a'", "write `project_path`"),
            (Kubernetes, "/kubernetes.oi/namespace", "'ci'", "write `kubernetes.io`"),
            (Kubernetes, "namespace", "'ci'", "its claims are kubernetes.io"),
            (Aws, "/https:~1~1sts.amazonaws.com/aws_account", "'1'", "https://sts.amazonaws.com/"),
            (Bitbucket, "repositoryUUID", "'a'", "its claims are"),
            (Gitlab, "ref_path", "'main'", "refs/heads/main"),
            (Kubernetes, "kubernetes.io/namespace", "'ci'", "write `/kubernetes.io/namespace`"),
            (Kubernetes, "/kubernetes.io/namespce", "'ci'", "write `namespace`"),
        ] {
            let found = warned(kind, name, value).unwrap_or_else(|| panic!("{name} {value}"));
            assert!(found.contains(part), "{name} {value}: {found}");
        }
        for (kind, name, value) in [
            (GithubActions, "ref", "'refs/heads/main'"),
            (GithubActions, "ref", "{ glob = 'refs/tags/*' }"),
            (GithubActions, "ref", "['main', 'refs/heads/main']"),
            (GithubActions, "ref_protected", "'true'"),
            (GithubActions, "repository_property_team", "'a'"),
            (GithubActions, "sub", "'a'"),
            (Gitlab, "ref", "'main'"),
            (Gitlab, "runner_id", "7"),
            (Gitlab, "/user_identities/0/provider", "'a'"),
            (Kubernetes, "/kubernetes.io/namespace", "'ci'"),
            (Aws, "/https:~1~1sts.amazonaws.com~1/aws_account", "'1'"),
            (Other, "anything", "true"),
        ] {
            assert_eq!(warned(kind, name, value), None, "{name} {value}");
        }
    }
}
