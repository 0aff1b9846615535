//! How well-known issuers write the values of their claims. A value in another form matches nobody.
//!
//! To add a form: an arm of [`expected_form`] and a row of its test.

use super::lint::IssuerKind;

/// The events that start a workflow of GitHub, by its documentation of 2026.
const GITHUB_EVENTS: &[&str] = &[
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "dynamic",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "public",
    "pull_request",
    "pull_request_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
];

/// What starts a pipeline of GitLab, by its documentation of 2026.
const GITLAB_SOURCES: &[&str] = &[
    "api",
    "chat",
    "container_registry_push",
    "duo_workflow",
    "external",
    "external_pull_request_event",
    "merge_request_event",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "parent_pipeline",
    "pipeline",
    "pipeline_execution_policy_schedule",
    "push",
    "schedule",
    "security_orchestration_policy",
    "trigger",
    "web",
    "webide",
];

/// Returns the form that the claim has in tokens of the issuer, if `text` has another one.
pub(super) fn expected_form(kind: IssuerKind, claim: &str, text: &str) -> Option<&'static str> {
    use IssuerKind::{GithubActions, Gitlab, Kubernetes};
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_free = text.starts_with("{project}");
    match (kind, claim) {
        (Gitlab, "ref_path") if !text.starts_with("refs/") => {
            Some("a full reference such as `refs/heads/main`")
        }
        (GithubActions, "repository") | (Gitlab, "project_path")
            if !text.contains('/') || text.contains("://") || is_clone(text) =>
        {
            Some("owner and name, such as `acme/my-app`")
        }
        (GithubActions, "sub") if text.starts_with("repo:") && text.matches(':').count() < 2 => {
            Some("`repo:`, owner and name, `:` and more, such as `repo:acme/my-app:ref:…`")
        }
        (Gitlab, "sub") if !text.contains(':') => {
            Some("`project_path:`, the path and the reference, or what the group has chosen")
        }
        (GithubActions, "job_workflow_ref" | "workflow_ref") if !text.contains('@') => {
            Some("path and reference, such as `acme/ci/.github/workflows/x.yml@refs/heads/main`")
        }
        (
            GithubActions,
            "repository_id" | "repository_owner_id" | "actor_id" | "enterprise_id" | "run_id",
        )
        | (Gitlab, "project_id" | "namespace_id" | "user_id" | "pipeline_id")
            if !is_number && !is_free =>
        {
            Some("a number in quotes")
        }
        (GithubActions, "ref_protected") | (Gitlab, "ref_protected" | "environment_protected")
            if !matches!(text, "true" | "false") =>
        {
            Some("`\"true\"` or `\"false\"`")
        }
        (GithubActions | Gitlab, "ref_type") if !matches!(text, "branch" | "tag") => {
            Some("`branch` or `tag`")
        }
        (GithubActions, "event_name") if !GITHUB_EVENTS.contains(&text) => {
            Some("the name of an event, such as `push`, `pull_request` or `workflow_dispatch`")
        }
        (Gitlab, "pipeline_source") if !GITLAB_SOURCES.contains(&text) => {
            Some("`push`, `web`, `schedule`, `merge_request_event` or another source")
        }
        (GithubActions | Gitlab, "runner_environment")
            if !matches!(text, "github-hosted" | "gitlab-hosted" | "self-hosted") =>
        {
            Some("`github-hosted`, `gitlab-hosted` or `self-hosted`")
        }
        (Kubernetes, "sub") if !text.starts_with("system:serviceaccount:") => {
            Some("`system:serviceaccount:` with namespace and name")
        }
        _ => None,
    }
}

/// Whether it is the name under which a repository is cloned.
fn is_clone(text: &str) -> bool {
    text.strip_suffix(".git").is_some()
}

#[cfg(test)]
mod tests {
    use IssuerKind::{GithubActions, Gitlab, Google, Kubernetes, Other};

    use super::*;

    #[test]
    fn a_value_in_another_form_is_found() {
        for (kind, claim, text, expected) in [
            (GithubActions, "repository", "app", Some("acme/my-app")),
            (GithubActions, "repository", "https://github.com/acme/app", Some("acme/my-app")),
            (GithubActions, "repository", "acme/app.git", Some("acme/my-app")),
            (GithubActions, "repository", "acme/{project}", None),
            (GithubActions, "sub", "repo:acme/app", Some("and more")),
            (GithubActions, "sub", "repo:acme/app:ref:refs/heads/main", None),
            (Gitlab, "sub", "acme/app", Some("project_path:")),
            (Gitlab, "sub", "project_path:acme/app:ref_type:branch:ref:main", None),
            (GithubActions, "repository_id", "acme/app", Some("a number in quotes")),
            (GithubActions, "repository_id", "{project}", None),
            (GithubActions, "ref_protected", "yes", Some("`\"true\"` or")),
            (GithubActions, "job_workflow_ref", "acme/ci/.github/workflows/x.yml", Some("refs/h")),
            (Gitlab, "ref_path", "main", Some("refs/heads/main")),
            (Gitlab, "ref_type", "branches", Some("`branch` or `tag`")),
            (Gitlab, "project_id", "42", None),
            (GithubActions, "event_name", "pul_request", Some("`pull_request`")),
            (GithubActions, "event_name", "Push", Some("`push`")),
            (GithubActions, "event_name", "workflow_dispatch", None),
            (Gitlab, "pipeline_source", "pull_request", Some("`merge_request_event`")),
            (Gitlab, "pipeline_source", "web", None),
            (GithubActions, "runner_environment", "hosted", Some("`github-hosted`")),
            (Gitlab, "runner_environment", "gitlab-hosted", None),
            (Kubernetes, "sub", "default", Some("system:serviceaccount:")),
            (Kubernetes, "sub", "system:serviceaccount:ci:{project}", None),
            (Google, "sub", "x", None),
            (Other, "ref_path", "main", None),
        ] {
            let found = expected_form(kind, claim, text);
            match expected {
                None => assert_eq!(found, None, "{claim} = {text}"),
                Some(part) => assert!(found.unwrap().contains(part), "{claim} = {text}: {found:?}"),
            }
        }
    }
}
