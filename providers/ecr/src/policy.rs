//! From granted actions to the statements of an IAM session policy. Pure.
//!
//! **Invariant:** statements name only the given repositories, and only the actions of a login have
//! `*`.

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

/// Those of ECR Public, by AWS's documentation of a push there. Everybody may pull.
const PUBLIC_ACTIONS: [(&str, Actions); 5] = [
    ("ecr-public:BatchCheckLayerAvailability", PUSH),
    ("ecr-public:InitiateLayerUpload", PUSH),
    ("ecr-public:UploadLayerPart", PUSH),
    ("ecr-public:CompleteLayerUpload", PUSH),
    ("ecr-public:PutImage", PUSH),
];

/// What a login needs.
const LOGIN: [&str; 1] = ["ecr:GetAuthorizationToken"];
const PUBLIC_LOGIN: [&str; 2] = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];

/// The statements of a session for the actions `granted` on `repository_arns`, in ECR or in ECR
/// Public.
pub(crate) fn statements(
    repository_arns: &[String],
    granted: Actions,
    is_public: bool,
) -> Result<Vec<Statement>, Error> {
    if granted.is_empty() {
        return Err(Error::Refused("the grant has no actions".to_owned()));
    }
    if granted.contains(Actions::DELETE) {
        return Err(Error::Unsupported("deleting images is not supported on ECR".to_owned()));
    }

    let (login, actions): (&[&str], &[(&str, Actions)]) =
        if is_public { (&PUBLIC_LOGIN, &PUBLIC_ACTIONS) } else { (&LOGIN, &ACTIONS) };
    let actions = actions.iter().filter(|(_, needs)| granted.intersects(*needs));
    let actions = actions.map(|(action, _)| (*action).to_owned()).collect();
    // IAM has no resource for these. They are a statement of their own, because other actions in it
    // would get `*` as well.
    let login = Statement {
        actions: login.iter().map(|action| (*action).to_owned()).collect(),
        resources: vec!["*".to_owned()],
    };
    Ok(vec![login, Statement { actions, resources: repository_arns.to_vec() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:ecr:eu-west-1:123456789012:repository/rise/my-app";

    fn actions(granted: Actions) -> Vec<String> {
        let [_, repository] =
            statements(&[ARN.to_owned()], granted, false).unwrap().try_into().unwrap();
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
        let statements = statements(&[ARN.to_owned()], PULL, false).unwrap();
        assert_eq!(statements[0].actions, ["ecr:GetAuthorizationToken"]);
        assert_eq!(statements[0].resources, ["*"]);
        assert_eq!(statements[1].resources, [ARN]);
        assert_eq!(statements.len(), 2);
    }

    #[test]
    fn deleting_and_nothing_are_no_policies() {
        for public in [false, true] {
            let of = |granted| statements(&[], granted, public);
            assert!(matches!(of(Actions::NONE), Err(Error::Refused(_))));
            assert!(matches!(of(PULL | Actions::DELETE), Err(Error::Unsupported(_))));
        }
    }

    #[test]
    fn a_public_push_has_no_action_of_the_private_service() {
        const PUBLIC: &str = "arn:aws:ecr-public::123456789012:repository/rise/my-app";
        let [login, push] = statements(&[PUBLIC.to_owned()], PULL | PUSH, true)
            .unwrap()
            .try_into()
            .unwrap_or_else(|all| panic!("{all:?}"));
        assert_eq!(
            (login.actions, login.resources),
            (PUBLIC_LOGIN.map(str::to_owned).into(), vec!["*".to_owned()])
        );
        assert_eq!(push.actions, PUBLIC_ACTIONS.map(|(action, _)| action));
        assert_eq!(push.resources, [PUBLIC]);
    }
}
