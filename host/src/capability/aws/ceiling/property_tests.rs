//! Whatever is asked for, and whatever projects are called: no policy reaches beyond the grant.

use super::tests::{ARN, ceiling, policy};
use super::*;

/// Whether IAM reads the resource, with a `*` at its end, as the ARN.
fn stands_for(resource: &str, arn: &str) -> bool {
    match resource.strip_suffix('*') {
        Some(start) => arn.starts_with(start),
        None => resource == arn,
    }
}

proptest::proptest! {
    /// With any two projects of any shape: what one may name in a policy is not the other's
    /// repository, nor below it where that counts, and what the other may name is refused.
    #[test]
    fn no_project_reaches_anothers_arn(
        depth in 1_u8..4,
        children: bool,
        one in "(a|b|a-b|a\\.b)(/(a|b|a_b)){0,3}",
        other in "(a|b|a-b|a\\.b)(/(a|b|a_b)){0,3}",
    ) {
        let shape = ProjectShape { depth, children, ..ProjectShape::default() };
        let settings = AwsSettings {
            region: "us-east-1".into(),
            account_id: "123456789012".into(),
            repo_prefix: "rise/".into(),
            child_repositories: children,
            ..AwsSettings::default()
        };
        let ceiling = AwsCeiling::new(&settings, None, Switches::default(), shape).unwrap();
        let (mine, theirs): (Project, Project) = (one.parse().unwrap(), other.parse().unwrap());
        if mine == theirs || !shape.admits(&mine) || !shape.admits(&theirs) {
            return Ok(());
        }
        let resources = |project: &Project| -> Vec<String> {
            let fill = |template: &String| template.replace("{project}", project.as_str());
            ceiling.resources.iter().map(fill).collect()
        };
        let policy = |resources: Vec<String>| {
            let actions = vec!["ecr:BatchGetImage".to_owned()];
            let statement = Statement { actions, resources };
            ceiling.policy(&[statement], &mine, Actions::PULL)
        };
        let written = policy(resources(&mine)).unwrap();
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        let home = format!("arn:aws:ecr:us-east-1:123456789012:repository/rise/{theirs}");
        let owned = [home.clone(), format!("{home}/x")];
        for resource in written["Statement"][0]["Resource"].as_array().unwrap() {
            for arn in owned.iter().take(if children { 2 } else { 1 }) {
                proptest::prop_assert!(!stands_for(resource.as_str().unwrap(), arn));
            }
        }
        for resource in resources(&theirs) {
            proptest::prop_assert!(policy(vec![resource]).is_err());
        }
    }
}

const ASKED_ACTIONS: [&str; 6] =
    ["ecr:BatchGetImage", "ecr:PutImage", "ecr:*", "*", LOGIN[0], "ecr:DeleteRepository"];
const ASKED_RESOURCES: [&str; 4] = [
    ARN,
    "*",
    "arn:aws:ecr:us-east-1:123456789012:repository/rise/other",
    "arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app*",
];

proptest::proptest! {
    /// Whatever is asked for, the policy names the granted project's repository or, for the
    /// login alone, `*`.
    #[test]
    fn no_policy_reaches_beyond_the_grant(
        asked in proptest::collection::vec((
            proptest::collection::vec(proptest::sample::select(ASKED_ACTIONS.to_vec()), 0..3),
            proptest::collection::vec(proptest::sample::select(ASKED_RESOURCES.to_vec()), 0..3),
        ), 0..4),
        push in proptest::bool::ANY,
    ) {
        let granted = if push { Actions::PULL_AND_PUSH } else { Actions::PULL };
        let statements: Vec<(&[&str], &[&str])> = asked
            .iter()
            .map(|(actions, resources)| (&actions[..], &resources[..]))
            .collect();
        if let Ok(policy) = policy(&ceiling(false), &statements, granted) {
            let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
            for statement in policy["Statement"].as_array().unwrap() {
                for action in statement["Action"].as_array().unwrap() {
                    for resource in statement["Resource"].as_array().unwrap() {
                        let login = action == LOGIN[0];
                        let is_pull = action == "ecr:BatchGetImage";
                        let covered = is_pull || (push && action == "ecr:PutImage");
                        let is_own = resource == ARN && (covered || login);
                        proptest::prop_assert!((login && resource == "*") || is_own);
                    }
                }
            }
        }
    }
}
