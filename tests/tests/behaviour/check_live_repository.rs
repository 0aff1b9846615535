//! `rise-broker check --live --project` tries the permissions on a real repository, and names what
//! a push would have found.

use rise_broker_tests::registry::{RegistryTable, ecr, oci};
use rise_broker_tests::{AUTH, Answer, Ministack, Stub, TwoRoles};
use serde_json::json;

use crate::check_live::{Checked, account, check_with, registry};

const PUSH: &str = "arn:aws:iam::123456789012:role/rise-backend-ecr-push";

async fn check_project(
    ministack: &Ministack,
    roles: &TwoRoles,
    change: impl FnOnce(RegistryTable) -> RegistryTable,
) -> Checked {
    let table = ecr(ministack.endpoint())
        .with("region", "eu-west-1")
        .with("role_arn", roles.role_arn.as_str())
        .with("access_key_id", roles.base.access_key_id.as_str())
        .with("secret_access_key", roles.base.secret_access_key.as_str());
    check_with(&format!("{AUTH}{}", change(table)), &["--project", "my-app"], &[]).await
}

/// The policy of the push role, with these actions on these repositories.
async fn push_policy(ministack: &Ministack, statements: serde_json::Value) {
    let document = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    let form = [
        ("Action", "PutRolePolicy"),
        ("RoleName", "rise-backend-ecr-push"),
        ("PolicyName", "may"),
        ("PolicyDocument", &document),
    ];
    ministack.iam(&form).await;
}

#[tokio::test]
async fn a_repository_that_can_be_pushed_to_passes_and_nothing_is_pushed() {
    let (ministack, roles) = account().await;
    ministack.create_repository("rise/my-app").await;
    let checked = check_project(&ministack, &roles, |table| table).await;
    assert!(checked.success, "{}", checked.stderr);
    let line = "prod: may use the repository rise/my-app: ecr:BatchGetImage, \
                ecr:BatchCheckLayerAvailability, ecr:InitiateLayerUpload";
    assert!(checked.stdout.contains(line), "{}", checked.stdout);
    let session = ministack.recorded("AssumeRole").await.pop().unwrap();
    let policy = session.policy().unwrap().to_string();
    assert!(policy.contains("repository/rise/my-app\""), "{policy}");
    for action in ["UploadLayerPart", "CompleteLayerUpload", "PutImage"] {
        assert!(ministack.recorded(action).await.is_empty(), "{action}");
    }
}

#[tokio::test]
async fn a_region_prefix_or_repository_that_is_wrong_is_named() {
    let (ministack, roles) = account().await;
    ministack.create_repository("rise/my-app").await;
    let arn =
        |region: &str, name: &str| format!("arn:aws:ecr:{region}:123456789012:repository/{name}");
    for ((key, value), parts) in [
        // The push role's policy is for eu-west-1 and `rise/`.
        (
            ("region", "us-east-1"),
            [arn("us-east-1", "rise/my-app"), "`region` (now us-east-1)".into()],
        ),
        (
            ("repo_prefix", "team/"),
            [arn("eu-west-1", "team/my-app"), "`repo_prefix` (now `team/`)".into()],
        ),
    ] {
        let checked = check_project(&ministack, &roles, |table| table.with(key, value)).await;
        let problem = checked.problem();
        let [named, setting] = parts;
        assert!(
            problem.contains(&format!("{PUSH} lacks, in a permissions policy")),
            "{key}: {problem}"
        );
        assert!(problem.contains(&named) && problem.contains(&setting), "{key}: {problem}");
        assert!(problem.contains("another region or prefix"), "{key}: {problem}");
        // All that is denied is one problem, with one statement.
        assert!(
            problem.contains(
                "[\"ecr:BatchGetImage\",\"ecr:BatchCheckLayerAvailability\",\
                 \"ecr:InitiateLayerUpload\"]"
            ),
            "{key}: {problem}"
        );
    }
    push_policy(&ministack, json!([{ "Effect": "Allow", "Action": "ecr:*", "Resource": "*" }]))
        .await;
    let checked =
        check_project(&ministack, &roles, |table| table.with("repo_prefix", "team/")).await;
    let problem = checked.problem();
    assert!(
        problem.contains(
            "create it by `aws ecr create-repository --region eu-west-1 --repository-name \
             team/my-app`"
        ),
        "{problem}"
    );
}

#[tokio::test]
async fn a_policy_that_lacks_or_denies_an_action_is_told_by_the_action() {
    let (ministack, roles) = account().await;
    ministack.create_repository("rise/my-app").await;
    let all = json!({ "Effect": "Allow", "Action": "ecr:*", "Resource": "*" });
    push_policy(
        &ministack,
        json!([{
            "Effect": "Allow",
            "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage"],
            "Resource": "*",
        }, {
            "Effect": "Allow", "Action": "ecr:BatchCheckLayerAvailability", "Resource": "*",
        }]),
    )
    .await;
    let checked = check_project(&ministack, &roles, |table| table).await;
    let problem = checked.problem();
    assert!(problem.contains("\"Action\":[\"ecr:InitiateLayerUpload\"]"), "{problem}");
    let denied = json!({ "Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "*" });
    push_policy(&ministack, json!([all, denied])).await;
    let checked = check_project(&ministack, &roles, |table| table).await;
    let problem = checked.problem();
    assert!(problem.contains("ecr:BatchGetImage on the repository rise/my-app"), "{problem}");
    assert!(!problem.contains("ecr:InitiateLayerUpload"), "{problem}");
    // A registry without a push role is tried with the broker's own role.
    let checked = check_project(&ministack, &roles, |table| {
        table.without("push_role_arn").with("role_arn", PUSH).with("accept_scope", "registry")
    })
    .await;
    assert!(checked.problem().contains("`role_arn`"), "{}", checked.stderr);
}

/// AWS has more words for a denial than the emulator.
#[tokio::test]
async fn the_words_of_aws_decide_between_remedies() {
    let keys = ("AKIACANARYCANARYCANA", "canary-secret-access-key");
    let error = |code: &str, message: &str| Answer::Raw {
        status: 400,
        content_type: "application/x-amz-json-1.1",
        body: json!({ "__type": code, "message": message }).to_string().into(),
    };
    for (answer, expected) in [
        (
            error("AccessDeniedException", "with an explicit deny in a service control policy"),
            "a policy denies it explicitly",
        ),
        (
            error("RepositoryNotFoundException", "The repository does not exist"),
            "aws ecr create-repository --region eu-west-1 --repository-name rise/my-app",
        ),
        (error("ThrottlingException", "Rate exceeded"), "try again in a minute"),
        (error("KmsException", "the key is disabled"), "KmsException"),
    ] {
        let aws = Stub::start().await;
        for action in ["BatchGetImage", "BatchCheckLayerAvailability", "InitiateLayerUpload"] {
            aws.always(action, answer.clone());
        }
        let text = registry(aws.endpoint(), keys, "");
        let checked = check_with(&text, &["--project", "my-app"], &[]).await;
        assert!(checked.problem().contains(expected), "{expected}: {}", checked.stderr);
    }
}

#[tokio::test]
async fn a_project_that_cannot_be_tried_is_told_apart_from_one_that_fails() {
    let aws = Stub::start().await;
    let two = format!("{AUTH}{}{}", ecr(aws.endpoint()), oci("localhost:5000").named("demo"));
    for (arguments, expected) in [
        (&["--project", "team/my-app"][..], "of one component (`project_depth`)"),
        (&["--project", "my-app", "--registry", "demo"], "registries on AWS only"),
        (&["--project", "my-app", "--registry", "prdo"], "expected one of demo, prod"),
    ] {
        let checked = check_with(&two, arguments, &[]).await;
        assert!(checked.problem().contains(expected), "{arguments:?}: {}", checked.stderr);
    }
    let of_one = ["--project", "my-app", "--registry", "prod"];
    aws.always("BatchGetImage", Answer::access_denied());
    let checked = check_with(&two, &of_one, &[]).await;
    assert!(checked.problem().contains("registries.prod:"), "{}", checked.stderr);
}
