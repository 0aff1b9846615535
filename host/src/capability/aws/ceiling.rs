//! The most that a registry may ask of AWS, and the request that the host writes within that.
//!
//! **Invariant:** [`AwsCeiling::assume_role`] compares whole strings. The policy that it returns
//! names resources of the granted project and actions of the granted verbs, each from the
//! operator's settings, and nothing that a provider wrote.

#[cfg(test)]
mod property_tests;
mod resources;

use std::collections::BTreeSet;

use serde_json::json;
use sha2::{Digest, Sha256};

use self::resources::{default_resources, is_template, shared};
use super::AssumeRole;
use super::settings::AwsSettings;
use crate::capability::printable;
use crate::capability::wit::rise::registry::aws::Statement;
use crate::config::AwsCeilingFile;
use crate::domain::{Action, Actions, Project, ProjectShape};
use crate::rules::Grant;

/// The longest session policy that STS accepts, in characters.
const MAX_POLICY: usize = 2048;
/// The most statements that fit into a policy: each needs at least forty characters.
const MAX_STATEMENTS: usize = 50;

/// What a login needs. These actions have no resource type, so they need `*` and a statement of
/// their own.
const LOGIN: [&str; 1] = ["ecr:GetAuthorizationToken"];
const PUBLIC_LOGIN: [&str; 2] = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];

const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
/// The actions that `docker push` needs, by the documentation of ECR.
const PUSH: [&str; 6] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
    "ecr:BatchGetImage",
];

/// The actions of a push to ECR Public, by its documentation. A pull needs no login at all.
const PUBLIC_PUSH: [&str; 5] = [
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:UploadLayerPart",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:PutImage",
];

/// The access to AWS that the operator's settings allow one registry.
#[derive(Clone, Debug)]
pub struct AwsCeiling {
    pub region: String,
    /// Whether its logins are those of ECR Public.
    is_public: bool,
    shape: ProjectShape,
    roles: BTreeSet<String>,
    /// Templates of ARNs, with `{project}`.
    resources: Vec<String>,
    pull: BTreeSet<String>,
    push: BTreeSet<String>,
    switches: Switches,
}

/// The switches among a registry's settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    pub unscoped: bool,
    pub source_identity: bool,
    pub session_tags: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAwsCeiling {
    #[error(
        "`{0}` must have `{{project}}` once, between `/` or `:` and the end, `/` or `/*`, and no \
        other wildcard"
    )]
    Resource(String),
    #[error("`{0}` is not one action such as `ecr:PutImage`")]
    Action(String),
    #[error("`{0}` is not of ECR Public, and this registry has `public_alias`: expected `{1}…`")]
    Service(String, &'static str),
    #[error("`child_repositories` needs a resource here that ends in `{{project}}/*`")]
    Children,
    #[error(
        "`{0}` and `{1}` can be the same resource for two different projects, because this \
         registry has projects {2}; remove one of them, or set `project_depth = 1`"
    )]
    Shared(String, String, ProjectShape),
}

/// Something that a provider asked for beyond the ceiling. The texts are for the operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeyondAwsCeiling {
    #[error("the role `{0}`, which is not one of this registry's")]
    Role(String),
    #[error("`{action}` on `{resource}`, which is not the granted project's")]
    Resource { action: String, resource: String },
    #[error("the action `{action}`, which a grant to {granted} does not cover")]
    Action { action: String, granted: Actions },
    #[error("a session policy without any statement on the project's repository")]
    Nothing,
    #[error("a session policy of {0} characters, of which STS accepts 2048")]
    TooLong(usize),
}

impl AwsCeiling {
    pub fn new(
        settings: &AwsSettings,
        stated: Option<&AwsCeilingFile>,
        switches: Switches,
        shape: ProjectShape,
    ) -> Result<Self, InvalidAwsCeiling> {
        let strings = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
        let defaults =
            |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        let (pull, push): (&[&str], &[&str]) =
            if settings.is_public() { (&[], &PUBLIC_PUSH) } else { (&PULL, &PUSH) };
        let ceiling = Self {
            region: settings.region.clone(),
            is_public: settings.is_public(),
            shape,
            roles: stated.map_or_else(
                || settings.push_role_arn.iter().cloned().collect(),
                |stated| strings(&stated.roles),
            ),
            resources: stated
                .map_or_else(|| default_resources(settings), |stated| stated.resources.clone()),
            pull: stated.map_or_else(|| defaults(pull), |stated| strings(&stated.pull)),
            push: stated.map_or_else(|| defaults(push), |stated| strings(&stated.push)),
            // An answer of ECR Public does not say whose login it is.
            switches: Switches { unscoped: switches.unscoped && !settings.is_public(), ..switches },
        };
        if let Some(wrong) = ceiling.resources.iter().find(|template| !is_template(template)) {
            return Err(InvalidAwsCeiling::Resource(wrong.clone()));
        }
        if let Some(wrong) =
            ceiling.pull.iter().chain(&ceiling.push).find(|action| !is_action(action))
        {
            return Err(InvalidAwsCeiling::Action(wrong.clone()));
        }
        ceiling.has_one_service()?;
        if settings.child_repositories
            && !ceiling.resources.iter().any(|template| template.ends_with("/*"))
        {
            return Err(InvalidAwsCeiling::Children);
        }
        match ceiling.shares_with(&ceiling) {
            Some((one, other)) => Err(InvalidAwsCeiling::Shared(one.into(), other.into(), shape)),
            None => Ok(ceiling),
        }
    }

    /// A registry of ECR Public has no access to another service.
    fn has_one_service(&self) -> Result<(), InvalidAwsCeiling> {
        let is_other = |text: &&String, start: &str| self.is_public && !text.starts_with(start);
        let (arn, action) = ("arn:aws:ecr-public::", "ecr-public:");
        let mut actions = self.pull.iter().chain(&self.push);
        let other = self.resources.iter().find(|it| is_other(it, arn)).map(|it| (it, arn));
        let other =
            other.or_else(|| actions.find(|it| is_other(it, action)).map(|it| (it, action)));
        other.map_or(Ok(()), |(text, start)| Err(InvalidAwsCeiling::Service(text.clone(), start)))
    }

    /// Returns a template of each that can be one resource for two different projects.
    pub(crate) fn shares_with<'a>(&'a self, other: &'a Self) -> Option<(&'a str, &'a str)> {
        shared((&self.resources, self.shape), (&other.resources, other.shape))
    }

    pub(crate) fn allows_unscoped(&self) -> bool {
        self.switches.unscoped
    }

    pub(crate) fn is_public(&self) -> bool {
        self.is_public
    }

    /// The actions of a login.
    pub(crate) fn login_actions(&self) -> &'static [&'static str] {
        if self.is_public { &PUBLIC_LOGIN } else { &LOGIN }
    }

    /// Returns the request to send to STS, if everything that the provider asked for is within the
    /// ceiling.
    pub fn assume_role(
        &self,
        role_arn: &str,
        statements: &[Statement],
        grant: &Grant,
    ) -> Result<AssumeRole, BeyondAwsCeiling> {
        if !self.roles.contains(role_arn) {
            return Err(BeyondAwsCeiling::Role(printable(role_arn, 256)));
        }
        let policy = self.policy(statements, grant.project(), grant.actions())?;
        Ok(AssumeRole {
            role_arn: role_arn.to_owned(),
            session_name: format!("rise-{}", grant.id()),
            policy,
            source_identity: self.switches.source_identity.then(|| source_identity(grant)),
            tags: if self.switches.session_tags { tags(grant) } else { Vec::new() },
        })
    }

    /// Whether a grant to pull and push can have this action.
    pub(crate) fn has_action(&self, action: &str) -> bool {
        self.covers(action, Actions::PULL_AND_PUSH)
    }

    /// Returns the request that the widest grant to `project` would send for each role. `check
    /// --live` sends it, with `session` in place of a grant's id.
    pub(crate) fn probes(
        &self,
        project: &Project,
        session: &str,
    ) -> Result<Vec<AssumeRole>, BeyondAwsCeiling> {
        let resources: Vec<String> = self
            .resources
            .iter()
            .map(|template| template.replace("{project}", project.as_str()))
            .collect();
        let actions: BTreeSet<&String> = self.pull.union(&self.push).collect();
        let statements = [
            Statement {
                actions: self.login_actions().iter().map(|action| (*action).to_owned()).collect(),
                resources: vec!["*".to_owned()],
            },
            Statement { actions: actions.into_iter().cloned().collect(), resources },
        ];
        let policy = self.policy(&statements, project, Actions::PULL_AND_PUSH)?;
        let tag = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let tags = [("rise-project", project.as_str()), ("rise-actions", "pull+push")].map(tag);
        let probe = |role_arn: &String| AssumeRole {
            role_arn: role_arn.clone(),
            session_name: session.to_owned(),
            policy: policy.clone(),
            source_identity: self.switches.source_identity.then(|| session.to_owned()),
            tags: if self.switches.session_tags { tags.to_vec() } else { Vec::new() },
        };
        Ok(self.roles.iter().map(probe).collect())
    }

    pub(crate) fn policy(
        &self,
        statements: &[Statement],
        project: &Project,
        granted: Actions,
    ) -> Result<String, BeyondAwsCeiling> {
        // Checked before anything is compared: what is longer than a policy cannot become one.
        let size: usize = statements
            .iter()
            .flat_map(|statement| statement.actions.iter().chain(&statement.resources))
            .map(|text| text.len() + 3)
            .sum();
        if size > MAX_POLICY || statements.len() > MAX_STATEMENTS {
            return Err(BeyondAwsCeiling::TooLong(size));
        }
        let resources: Vec<String> = self
            .resources
            .iter()
            .map(|template| template.replace("{project}", project.as_str()))
            .collect();
        let mut written = Vec::new();
        let mut narrowed = false;
        for statement in statements {
            let of_login = |action: &String| self.login_actions().contains(&action.as_str());
            let is_login = statement.actions.iter().all(of_login) && !statement.actions.is_empty();
            for action in &statement.actions {
                if !is_login && !self.covers(action, granted) {
                    return Err(BeyondAwsCeiling::Action {
                        action: printable(action, 128),
                        granted,
                    });
                }
                let beyond = |resource: &&String| {
                    !(resources.contains(*resource) || is_login && *resource == "*")
                };
                if let Some(resource) = statement.resources.iter().find(beyond) {
                    return Err(BeyondAwsCeiling::Resource {
                        action: printable(action, 128),
                        resource: printable(resource, 256),
                    });
                }
            }
            // IAM rejects an empty list. It is rejected here before it is sent.
            if statement.actions.is_empty() || statement.resources.is_empty() {
                return Err(BeyondAwsCeiling::Nothing);
            }
            narrowed |= !is_login;
            let Statement { actions, resources } = statement;
            written.push(json!({ "Effect": "Allow", "Action": actions, "Resource": resources }));
        }
        if !narrowed {
            return Err(BeyondAwsCeiling::Nothing);
        }
        let policy = json!({ "Version": "2012-10-17", "Statement": written }).to_string();
        if policy.len() > MAX_POLICY {
            Err(BeyondAwsCeiling::TooLong(policy.len()))
        } else {
            Ok(policy)
        }
    }

    fn covers(&self, action: &str, granted: Actions) -> bool {
        granted.iter().any(|verb| match verb {
            Action::Pull => self.pull.contains(action),
            Action::Push => self.push.contains(action),
        })
    }
}

fn is_action(text: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.split_once(':').is_some_and(|(service, action)| word(service) && word(action))
}

/// The caller, as `CloudTrail` shows it on every later call. It is a digest, because a `sub` may
/// have characters that STS rejects, or tell AWS more than it needs to know.
fn source_identity(grant: &Grant) -> String {
    let subject = grant.subject();
    let text = format!("{}\n{}", subject.issuer, subject.sub);
    let hash = hex::encode(Sha256::digest(text));
    format!("p-{}", hash.get(..32).unwrap_or_default())
}

fn tags(grant: &Grant) -> Vec<(String, String)> {
    let actions: Vec<&str> = grant.actions().iter().map(Action::as_str).collect();
    vec![
        ("rise-project".to_owned(), grant.project().to_string()),
        ("rise-actions".to_owned(), actions.join("+")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const ARN: &str = "arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app";

    pub(super) fn ceiling(child_repositories: bool) -> AwsCeiling {
        let settings = AwsSettings {
            region: "us-east-1".into(),
            account_id: "123456789012".into(),
            repo_prefix: "rise/".into(),
            push_role_arn: Some("arn:aws:iam::123456789012:role/push".into()),
            child_repositories,
            ..AwsSettings::default()
        };
        let shape = ProjectShape { children: child_repositories, ..ProjectShape::default() };
        AwsCeiling::new(&settings, None, Switches::default(), shape).unwrap()
    }

    pub(super) fn policy(
        ceiling: &AwsCeiling,
        statements: &[(&[&str], &[&str])],
        granted: Actions,
    ) -> Result<String, BeyondAwsCeiling> {
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
        let statements: Vec<Statement> = statements
            .iter()
            .map(|(actions, resources)| Statement {
                actions: owned(actions),
                resources: owned(resources),
            })
            .collect();
        ceiling.policy(&statements, &"my-app".parse().unwrap(), granted)
    }

    #[test]
    fn what_is_granted_is_written_as_it_is() {
        let statements: [(&[&str], &[&str]); 2] = [(&LOGIN, &["*"]), (&PULL, &[ARN])];
        assert_eq!(
            policy(&ceiling(false), &statements, Actions::PULL).unwrap(),
            format!(
                r#"{{"Statement":[{{"Action":["ecr:GetAuthorizationToken"],"Effect":"Allow","Resource":["*"]}},{{"Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"],"Effect":"Allow","Resource":["{ARN}"]}}],"Version":"2012-10-17"}}"#
            )
        );
    }

    #[test]
    fn everything_else_is_refused() {
        let sibling = format!("{ARN}-2");
        let star = format!("{ARN}*");
        let child = format!("{ARN}/*");
        let cases: [(&[&str], &[&str]); 14] = [
            (&["ecr:BatchGetImage"], &[&sibling]),
            (&["ecr:BatchGetImage"], &[&star]),
            (&["ecr:BatchGetImage"], &[&child]),
            (&["ecr:BatchGetImage"], &["*"]),
            (&["ecr:BatchGetImage"], &[ARN, "*"]),
            (&["ecr:BatchGetImage", LOGIN[0]], &["*"]),
            (&["ecr:PutImage"], &[ARN]),
            (&["ecr:*"], &[ARN]),
            (&["*"], &[ARN]),
            (&["ecr:batchgetimage"], &[ARN]),
            (&["ecr:DeleteRepository"], &[ARN]),
            (&[], &[ARN]),
            (&["ecr:BatchGetImage"], &[]),
            (&LOGIN, &["*"]),
        ];
        for (actions, resources) in cases {
            assert!(
                policy(&ceiling(false), &[(actions, resources)], Actions::PULL).is_err(),
                "{actions:?} {resources:?}"
            );
        }
        assert_eq!(policy(&ceiling(false), &[], Actions::PULL), Err(BeyondAwsCeiling::Nothing));
        let many = vec![(&PULL[..], &[ARN][..]); 20];
        assert!(matches!(
            policy(&ceiling(false), &many, Actions::PULL),
            Err(BeyondAwsCeiling::TooLong(_))
        ));
        assert!(
            policy(&ceiling(true), &[(&["ecr:BatchGetImage"], &[ARN, &child])], Actions::PULL)
                .is_ok()
        );
    }

    const PUBLIC_ARN: &str = "arn:aws:ecr-public::123456789012:repository/rise/my-app";

    fn public(stated: Option<&AwsCeilingFile>) -> Result<AwsCeiling, InvalidAwsCeiling> {
        let settings = AwsSettings {
            region: "us-east-1".into(),
            account_id: "123456789012".into(),
            repo_prefix: "rise/".into(),
            public_alias: Some("acme".into()),
            push_role_arn: Some("arn:aws:iam::123456789012:role/push".into()),
            ..AwsSettings::default()
        };
        let switches = Switches { unscoped: true, ..Switches::default() };
        AwsCeiling::new(&settings, stated, switches, ProjectShape::default())
    }

    #[test]
    fn a_public_registry_has_its_own_service_alone() {
        let ceiling = public(None).unwrap();
        assert!(!ceiling.allows_unscoped());
        let both = Actions::PULL_AND_PUSH;
        let right: [(&[&str], &[&str]); 2] =
            [(&PUBLIC_LOGIN, &["*"]), (&PUBLIC_PUSH, &[PUBLIC_ARN])];
        let written = policy(&ceiling, &right, both).unwrap();
        assert!(written.contains(PUBLIC_ARN) && written.len() < 600, "{written}");
        let cases: [(&[&str], &[&str], Actions); 9] = [
            (&PUBLIC_PUSH, &[PUBLIC_ARN], Actions::PULL),
            (&PUSH, &[PUBLIC_ARN], both),
            (&PUBLIC_PUSH, &[ARN], both),
            (&PUBLIC_PUSH, &["*"], both),
            (&["ecr-public:PutImage", "sts:GetServiceBearerToken"], &["*"], both),
            (&["ecr-public:DeleteRepository"], &[PUBLIC_ARN], both),
            (&["ecr-public:*"], &[PUBLIC_ARN], both),
            (&LOGIN, &["*"], both),
            (&PUBLIC_LOGIN, &["*"], both),
        ];
        for (actions, resources, granted) in cases {
            let refused = policy(&ceiling, &[(actions, resources)], granted);
            assert!(refused.is_err(), "{actions:?} {resources:?} {granted}");
        }
        // Nor may a private registry log in there.
        let login: [(&[&str], &[&str]); 2] = [(&PUBLIC_LOGIN, &["*"]), (&PULL, &[ARN])];
        assert!(policy(&super::tests::ceiling(false), &login, both).is_err());
    }

    #[test]
    fn a_stated_ceiling_of_a_public_registry_is_of_its_service() {
        let texts = |text: &str| vec![text.to_owned()];
        let stated = |resource: &str, action: &str| AwsCeilingFile {
            roles: texts("arn:aws:iam::123456789012:role/push"),
            resources: texts(resource),
            pull: vec![],
            push: texts(action),
        };
        let template = PUBLIC_ARN.replace("my-app", "{project}");
        assert!(public(Some(&stated(&template, "ecr-public:PutImage"))).is_ok());
        for (resource, action) in [
            (template.as_str(), "ecr:PutImage"),
            (template.as_str(), "sts:AssumeRole"),
            (&ARN.replace("my-app", "{project}"), "ecr-public:PutImage"),
        ] {
            let wrong = public(Some(&stated(resource, action))).unwrap_err();
            assert!(matches!(wrong, InvalidAwsCeiling::Service(..)), "{wrong}");
        }
    }
}
