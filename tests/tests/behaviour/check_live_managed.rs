//! `rise-broker check --live` names what the managing role of a registry lacks, and changes
//! nothing.

use rise_broker_tests::registry::{RegistryTable, ecr};
use rise_broker_tests::{AUTH, Ministack, TwoRoles};

use crate::check_live::{Checked, account, check_with};

const READS: [&str; 3] =
    ["ecr:DescribeRepositories", "ecr:ListTagsForResource", "ecr:GetLifecyclePolicy"];

async fn check_managed(
    ministack: &Ministack,
    roles: &TwoRoles,
    change: impl FnOnce(RegistryTable) -> RegistryTable,
) -> Checked {
    let table = ecr(ministack.endpoint())
        .with("region", "eu-west-1")
        .with("role_arn", roles.role_arn.as_str())
        .with("access_key_id", roles.base.access_key_id.as_str())
        .with("secret_access_key", roles.base.secret_access_key.as_str());
    check_with(&format!("{AUTH}{}", change(table)), &[], &[]).await
}

fn managed(create: &'static str) -> impl Fn(RegistryTable) -> RegistryTable {
    move |table| {
        let lines = format!("[registries.prod.repositories]\ncreate = \"{create}\"\n");
        table.with("auto_remove", create == "on-push").lines(&lines)
    }
}

#[tokio::test]
async fn each_missing_read_is_named_in_one_statement() {
    let (ministack, roles) = account().await;
    for missing in READS {
        let rest: Vec<&str> = READS.into_iter().filter(|action| *action != missing).collect();
        ministack.let_manage("rise/", &rest).await;
        let checked = check_managed(&ministack, &roles, managed("never")).await;
        let problem = checked.problem();
        let statement = format!(
            "arn:aws:iam::123456789012:role/rise-backend lacks, in a permissions policy: \
             {{\"Action\":[\"{missing}\"],\"Effect\":\"Allow\",\"Resource\":\
             \"arn:aws:ecr:eu-west-1:123456789012:repository/rise/*\"}}"
        );
        assert!(problem.contains(&statement), "{missing}: {problem}");
    }
    ministack.let_manage("rise/", &["ecr:TagResource"]).await;
    let checked = check_managed(&ministack, &roles, managed("on-push")).await;
    let all = "[\"ecr:DescribeRepositories\",\"ecr:ListTagsForResource\",\
               \"ecr:GetLifecyclePolicy\"]";
    assert!(checked.problem().contains(all), "{}", checked.stderr);
}

#[tokio::test]
async fn what_a_change_needs_is_listed_for_what_is_switched_on_and_not_tried() {
    let (ministack, roles) = account().await;
    ministack.let_manage("rise/", &READS).await;
    let writes = ["CreateRepository", "TagResource", "UntagResource", "PutLifecyclePolicy"];
    for create in ["never", "on-push"] {
        let checked = check_managed(&ministack, &roles, managed(create)).await;
        assert!(checked.success, "{create}: {}", checked.stderr);
        let out = &checked.stdout;
        assert!(out.contains("prod: may look at the repositories rise/*"), "{out}");
        assert!(out.contains("prod: may list the account's repositories"), "{out}");
        let nothing = "prod: credentials can neither create, change nor delete a repository";
        assert!(out.contains(nothing), "{out}");
        let is_on_push = create == "on-push";
        assert_eq!(out.contains("needed for a first push"), is_on_push, "{out}");
        assert_eq!(
            out.contains("ecr:DeleteRepository"),
            is_on_push,
            "only with auto_remove: {out}"
        );
        for action in writes {
            assert!(out.contains(&format!("\"ecr:{action}\"")), "{action}: {out}");
            assert!(ministack.recorded(action).await.is_empty(), "{action}");
        }
    }
    // Without the table nothing is asked and nothing is said.
    let before = ministack.recorded("DescribeRepositories").await.len();
    let checked = check_managed(&ministack, &roles, |table| table).await;
    assert!(!checked.stdout.contains("repositories"), "{}", checked.stdout);
    assert_eq!(ministack.recorded("DescribeRepositories").await.len(), before);
}

#[tokio::test]
async fn a_ceiling_that_lets_credentials_manage_repositories_is_told() {
    let (ministack, roles) = account().await;
    ministack.let_manage("rise/", &READS).await;
    let checked = check_managed(&ministack, &roles, |table| {
        let push = roles.push_role_arn.as_str();
        let ceiling = format!(
            "[registries.prod.ceiling.aws]\nroles = [\"{push}\"]\nresources = \
             [\"arn:aws:ecr:eu-west-1:123456789012:repository/rise/{{project}}\"]\n\
             pull = [\"ecr:BatchGetImage\"]\npush = [\"ecr:PutImage\", \"ecr:CreateRepository\"]\n"
        );
        managed("never")(table).lines(&ceiling)
    })
    .await;
    assert!(checked.stderr.contains("remove ecr:CreateRepository from it"), "{}", checked.stderr);
}
