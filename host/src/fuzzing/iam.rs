//! The part of IAM that session policies need: allow statements, `*` and `?`.

use serde_json::Value;

use crate::domain::{Action, Actions};

const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
const PUSH: [&str; 6] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
    "ecr:BatchGetImage",
];
const OTHERS: [&str; 6] = [
    "ecr:DeleteRepository",
    "ecr:SetRepositoryPolicy",
    "ecr:CreateRepository",
    "ecr:BatchDeleteImage",
    "sts:AssumeRole",
    "iam:PutRolePolicy",
];
const OWN: &str = "arn:aws:ecr:eu-west-1:123456789012:repository/rise/my-app";
const FOREIGN: [&str; 7] = [
    "arn:aws:ecr:eu-west-1:123456789012:repository/rise/my-app-2",
    "arn:aws:ecr:eu-west-1:123456789012:repository/rise/my-app/child",
    "arn:aws:ecr:eu-west-1:123456789012:repository/rise/other",
    "arn:aws:ecr:eu-west-1:123456789012:repository/my-app",
    "arn:aws:ecr:eu-west-1:999999999999:repository/rise/my-app",
    "arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app",
    "*",
];

pub(super) fn allows_no_more_than(policy: &str, granted: Actions) {
    let policy: Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let allows = |action: &str, resource: &str| {
        statements.iter().any(|statement| {
            let matches = |member: &str, text: &str| {
                let patterns = statement[member].as_array().unwrap();
                patterns
                    .iter()
                    .any(|pattern| is_like(pattern.as_str().unwrap().as_bytes(), text.as_bytes()))
            };
            statement["Effect"] == "Allow"
                && matches("Action", action)
                && matches("Resource", resource)
        })
    };
    let within = |action: &str| {
        granted.contains(Action::Pull) && PULL.contains(&action)
            || granted.contains(Action::Push) && PUSH.contains(&action)
    };
    for action in PULL.iter().chain(&PUSH).chain(&OTHERS) {
        assert!(!allows(action, OWN) || within(action), "{action} on its own: {policy}");
        for resource in FOREIGN {
            assert!(!allows(action, resource), "{action} on {resource}: {policy}");
        }
    }
    for statement in statements {
        let resources = statement["Resource"].as_array().unwrap();
        let is_login = statement["Action"]
            .as_array()
            .unwrap()
            .iter()
            .all(|action| action == "ecr:GetAuthorizationToken");
        assert!(resources.iter().all(|arn| arn == OWN || is_login && arn == "*"), "{policy}");
    }
}

/// Whether `pattern` matches: `*` is any text, `?` any character.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            is_like(rest, text) || !text.is_empty() && is_like(pattern, &text[1..])
        }
        ([b'?', rest @ ..], [_, text @ ..]) => is_like(rest, text),
        ([one, rest @ ..], [other, text @ ..]) => {
            one.eq_ignore_ascii_case(other) && is_like(rest, text)
        }
        _ => false,
    }
}
