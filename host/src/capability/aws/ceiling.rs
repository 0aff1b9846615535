//! The most that a registry may ask of AWS, and the request that the host writes within that.
//!
//! **Invariant:** [`AwsCeiling::assume_role`] compares whole strings. The policy that it returns
//! names resources of the granted project and actions of the granted verbs, each from the
//! operator's settings, and nothing that a provider wrote.

use std::collections::BTreeSet;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::AssumeRole;
use crate::capability::printable;
use crate::capability::wit::rise::registry::aws::Statement;
use crate::config::AwsCeilingFile;
use crate::domain::location::ProjectPath;
use crate::domain::{Action, Actions, Project, ProjectShape};
use crate::rules::Grant;

/// This action has no resource type, so it needs `*` and a statement of its own.
pub(crate) const LOGIN_ACTION: &str = "ecr:GetAuthorizationToken";
/// The longest session policy that STS accepts, in characters.
const MAX_POLICY: usize = 2048;
/// The most statements that fit into a policy: each needs at least forty characters.
const MAX_STATEMENTS: usize = 50;

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

/// The access to AWS that the operator's settings allow one registry.
#[derive(Clone, Debug)]
pub struct AwsCeiling {
    pub region: String,
    roles: BTreeSet<String>,
    /// Templates of ARNs, with `{project}`.
    resources: Vec<String>,
    pull: BTreeSet<String>,
    push: BTreeSet<String>,
    unscoped: bool,
    source_identity: bool,
    session_tags: bool,
}

/// The settings of a registry that the host itself reads for AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct AwsSettings {
    pub region: String,
    pub account_id: String,
    pub partition: Option<String>,
    pub repo_prefix: String,
    pub role_arn: Option<String>,
    pub push_role_arn: Option<String>,
    pub child_repositories: bool,
    pub dual_stack: bool,
    pub fips: bool,
    pub endpoint_url: Option<String>,
}

impl AwsSettings {
    pub fn partition(&self) -> &str {
        self.partition.as_deref().unwrap_or_else(|| partition_of(&self.region))
    }

    /// The host name of ECR in this account and region.
    pub fn registry_host(&self) -> String {
        let (service, suffix) = match (self.dual_stack, self.partition()) {
            (true, "aws-cn") => ("dkr-ecr", "on.amazonwebservices.com.cn"),
            (true, _) => ("dkr-ecr", "on.aws"),
            (false, "aws-cn") => ("dkr.ecr", "amazonaws.com.cn"),
            (false, "aws-eusc") => ("dkr.ecr", "amazonaws.eu"),
            (false, "aws-iso") => ("dkr.ecr", "c2s.ic.gov"),
            (false, "aws-iso-b") => ("dkr.ecr", "sc2s.sgov.gov"),
            (false, "aws-iso-e") => ("dkr.ecr", "cloud.adc-e.uk"),
            (false, "aws-iso-f") => ("dkr.ecr", "csp.hci.ic.gov"),
            (false, _) => ("dkr.ecr", "amazonaws.com"),
        };
        let fips = if self.fips { "-fips" } else { "" };
        format!("{}.{service}{fips}.{}.{suffix}", self.account_id, self.region)
    }
}

/// The partition that the name of a region states.
fn partition_of(region: &str) -> &'static str {
    match region.split_once('-') {
        Some(("cn", _)) => "aws-cn",
        Some(("eusc", _)) => "aws-eusc",
        Some(("us", rest)) if rest.starts_with("gov-") => "aws-us-gov",
        Some((_, rest)) if rest.starts_with("iso-") => "aws-iso",
        Some((_, rest)) if rest.starts_with("isob-") => "aws-iso-b",
        Some((_, rest)) if rest.starts_with("isoe-") => "aws-iso-e",
        Some((_, rest)) if rest.starts_with("isof-") => "aws-iso-f",
        Some(_) | None => "aws",
    }
}

/// The account in the ARN of a role.
pub fn account_of(role_arn: &str) -> Option<&str> {
    role_arn.split(':').nth(4)
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
        let ceiling = Self {
            region: settings.region.clone(),
            roles: stated.map_or_else(
                || settings.push_role_arn.iter().cloned().collect(),
                |stated| strings(&stated.roles),
            ),
            resources: stated
                .map_or_else(|| default_resources(settings), |stated| stated.resources.clone()),
            pull: stated.map_or_else(|| defaults(&PULL), |stated| strings(&stated.pull)),
            push: stated.map_or_else(|| defaults(&PUSH), |stated| strings(&stated.push)),
            unscoped: switches.unscoped,
            source_identity: switches.source_identity,
            session_tags: switches.session_tags,
        };
        if let Some(wrong) = ceiling.resources.iter().find(|template| !is_template(template)) {
            return Err(InvalidAwsCeiling::Resource(wrong.clone()));
        }
        if let Some(wrong) =
            ceiling.pull.iter().chain(&ceiling.push).find(|action| !is_action(action))
        {
            return Err(InvalidAwsCeiling::Action(wrong.clone()));
        }
        if settings.child_repositories
            && !ceiling.resources.iter().any(|template| template.ends_with("/*"))
        {
            return Err(InvalidAwsCeiling::Children);
        }
        match shared(&ceiling.resources, shape) {
            Some((one, other)) => Err(InvalidAwsCeiling::Shared(one.into(), other.into(), shape)),
            None => Ok(ceiling),
        }
    }

    pub(crate) fn allows_unscoped(&self) -> bool {
        self.unscoped
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
            source_identity: self.source_identity.then(|| source_identity(grant)),
            tags: if self.session_tags { tags(grant) } else { Vec::new() },
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
            Statement { actions: vec![LOGIN_ACTION.to_owned()], resources: vec!["*".to_owned()] },
            Statement { actions: actions.into_iter().cloned().collect(), resources },
        ];
        let policy = self.policy(&statements, project, Actions::PULL_AND_PUSH)?;
        let tag = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let tags = [("rise-project", project.as_str()), ("rise-actions", "pull+push")].map(tag);
        let probe = |role_arn: &String| AssumeRole {
            role_arn: role_arn.clone(),
            session_name: session.to_owned(),
            policy: policy.clone(),
            source_identity: self.source_identity.then(|| session.to_owned()),
            tags: if self.session_tags { tags.to_vec() } else { Vec::new() },
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
            let is_login = statement.actions.iter().all(|action| action == LOGIN_ACTION)
                && !statement.actions.is_empty();
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

/// `arn:{partition}:ecr:{region}:{account}:repository/{prefix}{project}`, and everything below it
/// if child repositories belong to a project.
fn default_resources(settings: &AwsSettings) -> Vec<String> {
    let AwsSettings { region, account_id, repo_prefix, .. } = settings;
    let own = format!(
        "arn:{}:ecr:{region}:{account_id}:repository/{repo_prefix}{{project}}",
        settings.partition()
    );
    let children = settings.child_repositories.then(|| format!("{own}/*"));
    [own].into_iter().chain(children).collect()
}

/// Returns two templates that are the same resource for two different projects: with `a` and `a/b`
/// as projects, `{project}/*` of `a` contains `{project}` of `a/b`.
fn shared(templates: &[String], shape: ProjectShape) -> Option<(&str, &str)> {
    let all: Vec<_> = templates.iter().map(|template| paths(template, shape)).collect();
    let mut pairs = all
        .iter()
        .zip(templates)
        .flat_map(|one| all.iter().zip(templates).map(move |other| (one, other)));
    let is_shared = |one: &[ProjectPath<'_>], other: &[ProjectPath<'_>]| {
        one.iter().any(|one| other.iter().any(|other| one.overlaps_for_others(other)))
    };
    let ((_, one), (_, other)) = pairs.find(|((one, _), (other, _))| is_shared(one, other))?;
    Some((one, other))
}

/// The paths of a template, one for each depth of a project. A `:` counts as a `/` here, which may
/// find something shared where nothing is, and never the reverse.
fn paths(template: &str, shape: ProjectShape) -> Vec<ProjectPath<'_>> {
    let (before, after) = template.split_once("{project}").unwrap_or((template, ""));
    let (after, below) = after.strip_suffix("/*").map_or((after, false), |rest| (rest, true));
    let [before, after] = [before, after].map(|text| {
        text.split(['/', ':']).filter(|segment| !segment.is_empty()).collect::<Vec<_>>()
    });
    let path = |depth| ProjectPath::new(before.clone(), depth, after.clone(), below);
    shape.depths().map(path).collect()
}

/// Checks a template. A bare `*` after `{project}` would reach `my-app-2` from `my-app`, and one in
/// front of it every project.
fn is_template(text: &str) -> bool {
    let Some((before, after)) = text.split_once("{project}") else { return false };
    let plain = |part: &str| !part.contains(['*', '?', '$', '{', '}', '"', '\\']);
    let after = after.strip_suffix("/*").unwrap_or(after);
    before.starts_with("arn:")
        && before.ends_with(['/', ':'])
        && plain(before)
        && plain(after)
        && (after.is_empty() || after.starts_with('/'))
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

    const ARN: &str = "arn:aws:ecr:us-east-1:123456789012:repository/rise/my-app";

    fn ceiling(child_repositories: bool) -> AwsCeiling {
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

    fn policy(
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
        let statements: [(&[&str], &[&str]); 2] = [(&[LOGIN_ACTION], &["*"]), (&PULL, &[ARN])];
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
            (&["ecr:BatchGetImage", LOGIN_ACTION], &["*"]),
            (&["ecr:PutImage"], &[ARN]),
            (&["ecr:*"], &[ARN]),
            (&["*"], &[ARN]),
            (&["ecr:batchgetimage"], &[ARN]),
            (&["ecr:DeleteRepository"], &[ARN]),
            (&[], &[ARN]),
            (&["ecr:BatchGetImage"], &[]),
            (&[LOGIN_ACTION], &["*"]),
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

    #[test]
    fn a_template_cannot_reach_beyond_a_project() {
        for (text, right) in [
            ("arn:aws:ecr:us-east-1:123456789012:repository/rise/{project}", true),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}/*", true),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}/images", true),
            ("arn:aws:ecr:us-east-1:123456789012:repository/rise/{project}*", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/rise/*", false),
            ("arn:aws:ecr:*:123456789012:repository/{project}", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/x{project}", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}-x", false),
            ("arn:aws:ecr:us-east-1:123456789012:repository/{project}/{project}", false),
            ("*", false),
            ("{project}", false),
        ] {
            assert_eq!(is_template(text), right, "{text}");
        }
    }

    #[test]
    fn no_two_projects_share_a_resource() {
        let shape = |depth, children| ProjectShape { depth, children, ..ProjectShape::default() };
        for (templates, shape, right) in [
            (&["{project}"][..], shape(3, false), true),
            (&["{project}", "{project}/*"], shape(1, false), true),
            (&["{project}", "{project}/*"], shape(1, true), true),
            (&["{project}", "{project}/*"], shape(3, true), true),
            (&["{project}", "{project}/*"], shape(2, false), false),
            (&["{project}/*"], shape(2, false), false),
            (&["{project}/images"], shape(2, false), true),
            (&["{project}", "{project}/images"], shape(1, false), true),
            (&["{project}", "{project}/images"], shape(2, false), false),
            (&["{project}", "x/{project}"], shape(1, false), true),
            (&["{project}", "x/{project}"], shape(2, false), false),
            (&["{project}/*", "x/{project}"], shape(1, false), false),
            (&["{project}", "Cache/{project}"], shape(2, false), true),
        ] {
            let arn = |end: &&str| format!("arn:aws:ecr:us-east-1:123456789012:repository/{end}");
            let templates: Vec<String> = templates.iter().map(arn).collect();
            assert_eq!(shared(&templates, shape).is_none(), right, "{templates:?} {shape:?}");
        }
    }

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
        ["ecr:BatchGetImage", "ecr:PutImage", "ecr:*", "*", LOGIN_ACTION, "ecr:DeleteRepository"];
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
                            let login = action == LOGIN_ACTION;
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
}
