//! From granted actions to the statements of an IAM session policy. Pure.
//!
//! **Invariant:** statements name only the given repositories, and only `ecr:GetAuthorizationToken`
//! has `*`.

use rise_provider::aws::Statement;
use rise_provider::{Actions, Error};

const PULL: Actions = Actions::PULL;
const PUSH: Actions = Actions::PUSH;

/// The IAM actions of each granted action.
///
/// Push has AWS's documented minimum for `docker push`, which reads manifests and downloads no
/// layer. Pull has the actions of AWS's managed policy for pulling, without pull-through caches.
const ACTIONS: [(&str, Actions); 7] = [
    ("ecr:BatchGetImage", PULL.union(PUSH)),
    ("ecr:GetDownloadUrlForLayer", PULL),
    ("ecr:BatchCheckLayerAvailability", PUSH),
    ("ecr:InitiateLayerUpload", PUSH),
    ("ecr:UploadLayerPart", PUSH),
    ("ecr:CompleteLayerUpload", PUSH),
    ("ecr:PutImage", PUSH),
];

/// The statements of a session for the actions `granted` on `repository_arns`.
pub(crate) fn statements(
    repository_arns: &[String],
    granted: Actions,
) -> Result<Vec<Statement>, Error> {
    if granted.is_empty() {
        return Err(Error::Refused("the grant has no actions".to_owned()));
    }
    if granted.contains(Actions::DELETE) {
        return Err(Error::Unsupported("deleting images is not supported on ECR".to_owned()));
    }

    let actions = ACTIONS.iter().filter(|(_, needs)| granted.intersects(*needs));
    let actions = actions.map(|(action, _)| (*action).to_owned()).collect();
    // IAM has no resource for this action. It is a statement of its own, because other actions in
    // it would get `*` as well.
    let login = Statement {
        actions: vec!["ecr:GetAuthorizationToken".to_owned()],
        resources: vec!["*".to_owned()],
    };
    Ok(vec![login, Statement { actions, resources: repository_arns.to_vec() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:ecr:eu-west-1:123456789012:repository/rise/my-app";

    fn actions(granted: Actions) -> Vec<String> {
        let [_, repository] = statements(&[ARN.to_owned()], granted).unwrap().try_into().unwrap();
        repository.actions
    }

    #[test]
    fn pull_cannot_upload() {
        assert_eq!(actions(PULL), ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]);
    }

    #[test]
    fn push_is_the_documented_minimum() {
        let mut actions = actions(PUSH);
        actions.sort();
        let minimum = [
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
        ];
        assert_eq!(actions, minimum);
    }

    #[test]
    fn pull_and_push_name_every_action_once() {
        assert_eq!(actions(PULL | PUSH), ACTIONS.map(|(action, _)| action));
    }

    #[test]
    fn only_the_login_is_for_every_resource() {
        let statements = statements(&[ARN.to_owned()], PULL).unwrap();
        assert_eq!(statements[0].actions, ["ecr:GetAuthorizationToken"]);
        assert_eq!(statements[0].resources, ["*"]);
        assert_eq!(statements[1].resources, [ARN]);
        assert_eq!(statements.len(), 2);
    }

    #[test]
    fn deleting_and_nothing_are_no_policies() {
        assert!(matches!(statements(&[], Actions::NONE), Err(Error::Refused(_))));
        assert!(matches!(statements(&[], PULL | Actions::DELETE), Err(Error::Unsupported(_))));
    }
}
