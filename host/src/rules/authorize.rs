//! A subject and its request become a grant, or the request is denied.
//!
//! **Invariant:** [`Grant`] has private fields, and only this file builds it: in
//! [`Rules::authorize`], [`Rules::authorize_repository`], for a credential that is to end,
//! [`PastGrant::revived`], and for commands, [`Grant::of_command`]. It cannot be cloned or changed.
//! **Invariant:** a grant is for credentials or for the repository. One for the repository has no
//! actions, so that nothing made from it opens anything.
//! **Invariant:** nothing is issued for a [`GrantView`], and so for no grant of the past: no
//! function makes the `Arc<Grant>` of it that an order needs.

use std::ops::Deref;
use std::sync::Arc;

use ulid::Ulid;

use super::rule::Rule;
use super::{OperatorRight, Rules};
use crate::domain::{
    Actions, Claims, ClientAddress, Lifetime, Project, RegistryName, RepositoryOperation, Right,
    Rights, Subject, SubjectDigest,
};

/// A request whose registry and project are known, before authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    pub id: Ulid,
    pub registry: RegistryName,
    pub project: Project,
    /// `None` requests everything that the rules allow.
    pub actions: Option<Actions>,
    pub lifetime: Lifetime,
    /// The client address, for the audit record; rules do not use it. `None` for a command on this
    /// machine.
    pub client: Option<ClientAddress>,
}

/// The approval of one request.
#[derive(Debug)]
pub struct Grant {
    subject: Subject,
    request: AccessRequest,
    actions: Actions,
    operation: Option<RepositoryOperation>,
    rules: Vec<String>,
    trial: Vec<String>,
}

/// A grant to read. Whoever acts for it has one, such as a provider call.
#[derive(Clone, Debug)]
pub struct GrantView(Arc<Grant>);

/// The grant of a credential that was issued, for as long as the credential works. It is good for
/// ending the credential, and for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastGrant {
    pub id: Ulid,
    /// The issuer's name in the settings.
    pub issuer: String,
    /// Perhaps only the beginning of it.
    pub sub: String,
    /// Of the whole `sub`.
    pub owner: SubjectDigest,
    pub registry: RegistryName,
    pub project: Project,
    pub actions: Actions,
}

/// The reason why nothing was granted. The caller gets only the `Display` text, which is the same
/// whether or not the project exists. The rest is for the audit record and the operator.
#[derive(Debug, thiserror::Error)]
#[error("no rule allows this on project `{}` in registry `{}`", request.project, request.registry)]
pub struct Denied {
    pub subject: Subject,
    pub request: AccessRequest,
    /// `None`: the request was for credentials.
    pub operation: Option<RepositoryOperation>,
    /// What the matching rules allow.
    pub allowed: Rights,
    /// At most 20 rules of the subject's issuer, each with the first check that failed.
    pub refusals: Vec<Refusal>,
    /// The names of the matching rules on trial.
    pub trial: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub rule: String,
    pub because: String,
}

/// The rules that match one request.
struct Matching<'a> {
    enforced: Vec<&'a Rule>,
    trial: Vec<String>,
    /// What the enforced ones allow together.
    allowed: Rights,
}

/// Bounds what one denied request can write to the log.
const MOST_REFUSALS: usize = 20;

impl Rules {
    /// Adds up the matching rules. A request for more than they allow is denied as a whole and
    /// never narrowed: a job that cannot push must not find that out at its last step. `Denied` is
    /// boxed because it is large.
    pub fn authorize(
        &self,
        subject: Subject,
        request: AccessRequest,
    ) -> Result<Grant, Box<Denied>> {
        let matching = self.matching(&subject, &request);
        let allowed = matching.allowed.actions();
        let actions = request.actions.unwrap_or(allowed);
        if actions.is_empty() || !actions.is_subset_of(allowed) {
            return Err(self.denied(subject, request, None, matching));
        }
        let rules = matching.contributing(actions.into());
        let trial = matching.trial;
        Ok(Grant { subject, request, actions, operation: None, rules, trial })
    }

    /// The same for what is done with the repository itself. The grant has no actions.
    pub fn authorize_repository(
        &self,
        subject: Subject,
        request: AccessRequest,
        operation: RepositoryOperation,
    ) -> Result<Grant, Box<Denied>> {
        let matching = self.matching(&subject, &request);
        if !operation.is_within(matching.allowed) {
            let all = [Right::Create, Right::Delete].into_iter().collect();
            let possible = self.restrict(all, &request.registry, &request.project);
            let operator = self.operators.find(&subject, OperatorRight::Repositories);
            let Some(name) = operator.filter(|_| operation.is_within(possible)) else {
                return Err(self.denied(subject, request, Some(operation), matching));
            };
            let (rules, trial) = (vec![format!("operator {name}")], matching.trial);
            let (actions, operation) = (Actions::NONE, Some(operation));
            return Ok(Grant { subject, request, actions, operation, rules, trial });
        }
        let needed = operation.right().map_or(matching.allowed, Rights::from);
        let (rules, trial) = (matching.contributing(needed), matching.trial);
        let (actions, operation) = (Actions::NONE, Some(operation));
        Ok(Grant { subject, request, actions, operation, rules, trial })
    }

    /// Returns what the rules together allow for one project.
    pub(super) fn allowed(
        &self,
        subject: &Subject,
        registry: &RegistryName,
        project: &Project,
    ) -> Rights {
        let request = AccessRequest {
            id: Ulid::nil(),
            registry: registry.clone(),
            project: project.clone(),
            actions: None,
            lifetime: Lifetime::default(),
            client: None,
        };
        self.matching(subject, &request).allowed
    }

    fn matching<'a>(&'a self, subject: &Subject, request: &AccessRequest) -> Matching<'a> {
        let matching = self.candidates(subject).filter(|rule| rule.matches(subject, request));
        let (trial, enforced): (Vec<&Rule>, Vec<&Rule>) =
            matching.partition(|rule| rule.is_on_trial());
        let rights = enforced.iter().fold(Rights::NONE, |all, rule| all.union(rule.allow()));
        let allowed = self.restrict(rights, &request.registry, &request.project);
        Matching { enforced, trial: names(trial), allowed }
    }

    /// Removes the rights that nobody has: all of them if the registry has no such project.
    fn restrict(&self, rights: Rights, registry: &RegistryName, project: &Project) -> Rights {
        if self.shape(registry).admits(project) {
            self.guardrail.restrict(rights, project)
        } else {
            Rights::NONE
        }
    }

    fn denied(
        &self,
        subject: Subject,
        request: AccessRequest,
        operation: Option<RepositoryOperation>,
        matching: Matching<'_>,
    ) -> Box<Denied> {
        let Matching { trial, allowed, .. } = matching;
        let refusals = self.refusals(&subject, &request);
        Box::new(Denied { subject, request, operation, allowed, refusals, trial })
    }

    fn refusals(&self, subject: &Subject, request: &AccessRequest) -> Vec<Refusal> {
        let shape = self.shape(&request.registry);
        let refusal = |rule: &Rule| {
            let failed = rule.checks(subject, request).find(|check| !check.held());
            let because = match failed {
                Some(check) => check.to_string(),
                None if rule.is_on_trial() => "is on trial and grants nothing".to_owned(),
                None if !shape.admits(&request.project) => {
                    format!("registry `{}` has projects {shape}", request.registry)
                }
                None if self.guardrail.denies_changes(&request.project) => {
                    "[limits.policy] allows only pull of the project".to_owned()
                }
                None => format!("allows only {}", rule.allow()),
            };
            Refusal { rule: rule.name().to_owned(), because }
        };
        let same_issuer = self.iter().filter(|rule| rule.issuer() == subject.issuer);
        same_issuer.take(MOST_REFUSALS).map(refusal).collect()
    }
}

impl Matching<'_> {
    /// The names of the rules that allow any of these.
    fn contributing(&self, rights: Rights) -> Vec<String> {
        let allows = |rule: &Rule| rights.iter().any(|right| rule.allow().contains(right));
        names(self.enforced.iter().copied().filter(|rule| allows(rule)))
    }
}

fn names<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<String> {
    rules.into_iter().map(|rule| rule.name().to_owned()).collect()
}

impl Grant {
    /// Approves that a user of the broker's machine manages the repository of a project by a
    /// command. As every grant for the repository, it has no actions.
    pub fn of_command(
        id: Ulid,
        user: &str,
        (registry, project): (&RegistryName, &Project),
        operation: RepositoryOperation,
    ) -> Self {
        Self {
            subject: Subject::of_command(user),
            request: AccessRequest {
                id,
                registry: registry.clone(),
                project: project.clone(),
                actions: None,
                lifetime: Lifetime::default(),
                client: None,
            },
            actions: Actions::NONE,
            operation: Some(operation),
            rules: Vec::new(),
            trial: Vec::new(),
        }
    }

    pub fn id(&self) -> Ulid {
        self.request.id
    }

    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    pub fn client(&self) -> Option<ClientAddress> {
        self.request.client
    }

    pub fn registry(&self) -> &RegistryName {
        &self.request.registry
    }

    pub fn project(&self) -> &Project {
        &self.request.project
    }

    /// What a credential may be good for. Nothing, if the grant is for the repository.
    pub fn actions(&self) -> Actions {
        self.actions
    }

    /// What may be done with the repository itself. `None`: the grant is for credentials.
    pub fn operation(&self) -> Option<RepositoryOperation> {
        self.operation
    }

    /// What was granted, for records.
    pub fn rights(&self) -> Rights {
        let right = self.operation.and_then(RepositoryOperation::right);
        right.map_or_else(|| self.actions.into(), Rights::from)
    }

    pub fn lifetime(&self) -> Lifetime {
        self.request.lifetime
    }

    /// Returns the names of the rules that contributed to what was granted, in the order of the
    /// settings.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// Returns the names of the matching rules on trial, which contributed nothing.
    pub fn trial(&self) -> &[String] {
        &self.trial
    }
}

impl From<Arc<Grant>> for GrantView {
    fn from(grant: Arc<Grant>) -> Self {
        Self(grant)
    }
}

impl Deref for GrantView {
    type Target = Grant;

    fn deref(&self) -> &Grant {
        &self.0
    }
}

impl PastGrant {
    pub fn of(grant: &Grant) -> Self {
        Self {
            id: grant.id(),
            issuer: grant.subject.issuer.clone(),
            sub: grant.subject.sub.clone(),
            owner: grant.subject.digest(),
            registry: grant.registry().clone(),
            project: grant.project().clone(),
            actions: grant.actions,
        }
    }

    /// The grant for the provider that ends the credential: without claims and rules.
    pub fn revived(&self) -> GrantView {
        let Self { id, issuer, sub, registry, project, actions, owner: _ } = self.clone();
        let grant = Grant {
            subject: Subject { issuer, sub, claims: Claims::new() },
            request: AccessRequest {
                id,
                registry,
                project,
                actions: Some(actions),
                lifetime: Lifetime::default(),
                client: None,
            },
            actions,
            operation: None,
            rules: Vec::new(),
            trial: Vec::new(),
        };
        Arc::new(grant).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Known, RuleFile};

    const RULES: &str = r#"
        [[rules]]
        name = "ci-push"
        issuer = "github"
        claims = { repository = "acme/{project}", ref = "refs/heads/main" }
        projects = ["*"]
        registries = ["prod"]
        allow = ["push"]
        [[rules]]
        name = "org-pull"
        issuer = "github"
        claims = { repository = { prefix = "acme/" } }
        projects = [{ prefix = "team-" }, "my-app"]
        registries = ["prod", "dev"]
        allow = ["pull"]
        [[rules]]
        name = "ops"
        issuer = "local"
        claims = { admin = true }
        projects = ["*"]
        registries = ["ops"]
        allow = ["pull"]
    "#;

    fn rules() -> Rules {
        #[derive(serde::Deserialize)]
        struct RulesTable {
            rules: Vec<RuleFile>,
        }
        let known = Known::new(
            ["github", "local"],
            ["prod", "dev", "ops"].map(|name| name.parse().unwrap()),
        );
        Rules::parse(toml::from_str::<RulesTable>(RULES).unwrap().rules, &known).unwrap()
    }

    fn subject(issuer: &str, claims: &serde_json::Value) -> Subject {
        Subject {
            issuer: issuer.into(),
            sub: "s".into(),
            claims: claims.as_object().unwrap().clone(),
        }
    }

    fn request(registry: &str, project: &str, actions: Option<Actions>) -> AccessRequest {
        AccessRequest {
            id: Ulid::nil(),
            registry: registry.parse().unwrap(),
            project: project.parse().unwrap(),
            actions,
            lifetime: Lifetime::default(),
            client: None,
        }
    }

    fn on_main() -> Subject {
        subject(
            "github",
            &serde_json::json!({ "repository": "acme/my-app", "ref": "refs/heads/main" }),
        )
    }

    #[test]
    fn matching_rules_add_up_and_are_never_narrowed() {
        let rules = rules();
        let both = Actions::PULL_AND_PUSH;
        for (registry, project, asked, granted, names) in [
            ("prod", "my-app", None, both, vec!["ci-push", "org-pull"]),
            ("prod", "my-app", Some(both), both, vec!["ci-push", "org-pull"]),
            ("prod", "my-app", Some(Actions::PULL), Actions::PULL, vec!["org-pull"]),
            ("prod", "my-app", Some(Actions::PUSH), Actions::PUSH, vec!["ci-push"]),
            ("dev", "my-app", None, Actions::PULL, vec!["org-pull"]),
            ("prod", "team-a", None, Actions::PULL, vec!["org-pull"]),
        ] {
            let grant = rules.authorize(on_main(), request(registry, project, asked)).unwrap();
            assert_eq!(
                (grant.actions(), grant.rules()),
                (granted, names.map_strings().as_slice()),
                "{registry} {project} {asked:?}"
            );
            assert_eq!((grant.registry().as_str(), grant.project().as_str()), (registry, project));
        }
        for (registry, project, asked) in [
            ("dev", "my-app", Some(both)),
            ("dev", "my-app", Some(Actions::PUSH)),
            ("prod", "team-a", Some(Actions::PUSH)),
            ("prod", "teams", None),
            ("ops", "my-app", None),
            ("unknown", "my-app", None),
            ("prod", "my-app", Some(Actions::NONE)),
        ] {
            assert!(
                rules.authorize(on_main(), request(registry, project, asked)).is_err(),
                "{registry} {project} {asked:?}"
            );
        }
    }

    trait MapStrings {
        fn map_strings(self) -> Vec<String>;
    }

    impl MapStrings for Vec<&str> {
        fn map_strings(self) -> Vec<String> {
            self.into_iter().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_denial_tells_the_operator_why_and_the_caller_nothing() {
        let denied = rules()
            .authorize(on_main(), request("prod", "other", Some(Actions::PUSH)))
            .unwrap_err();
        assert_eq!(denied.to_string(), "no rule allows this on project `other` in registry `prod`");
        let because: Vec<_> = denied
            .refusals
            .iter()
            .map(|refusal| (refusal.rule.as_str(), refusal.because.as_str()))
            .collect();
        assert_eq!(
            because,
            [
                ("ci-push", "claim `repository` is `acme/{project}`: no"),
                ("org-pull", "the rule covers the project: no")
            ]
        );
        let denied = rules()
            .authorize(on_main(), request("dev", "my-app", Some(Actions::PUSH)))
            .unwrap_err();
        assert_eq!(denied.allowed, Actions::PULL.into());
        assert_eq!(denied.refusals[1].because, "allows only pull");
        let missing = subject("github", &serde_json::json!({ "repository": ["acme/my-app"] }));
        let denied = rules().authorize(missing, request("prod", "my-app", None)).unwrap_err();
        assert_eq!(
            denied.refusals[0].because,
            "claim `ref` is `refs/heads/main`: no, the token has no such claim"
        );
        assert_eq!(
            denied.refusals[1].because,
            "claim `repository` is `acme/…`: no, expected text, found a list"
        );
    }

    #[test]
    fn the_same_claims_from_another_issuer_are_another_subject() {
        let claims = on_main().claims;
        let other = Subject { issuer: "local".into(), sub: "s".into(), claims };
        assert!(rules().authorize(other, request("prod", "my-app", None)).is_err());
    }

    #[test]
    fn registries_are_listed_for_those_who_may_reach_them() {
        let rules = rules();
        let reach = |subject: Subject| {
            rules
                .reachable(&subject)
                .into_iter()
                .map(|registry| registry.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(reach(on_main()), ["dev", "prod"]);
        let on_main_of = |repository| {
            let claims = serde_json::json!({ "repository": repository, "ref": "refs/heads/main" });
            reach(subject("github", &claims))
        };
        assert_eq!(on_main_of("acme/x"), ["dev", "prod"]);
        for nobodys in ["x", "evil/x", "acme-evil/x"] {
            assert!(on_main_of(nobodys).is_empty(), "{nobodys}");
        }
        assert!(reach(subject("github", &serde_json::json!({ "repository": "x" }))).is_empty());
        assert_eq!(reach(subject("local", &serde_json::json!({ "admin": true }))), ["ops"]);
        assert!(reach(subject("nobody", &serde_json::json!({ "admin": true }))).is_empty());
    }

    #[test]
    fn an_evaluation_goes_on_behind_a_failure() {
        let rules = rules();
        let (subject, request) = (on_main(), request("dev", "x", None));
        let evaluations = rules.evaluate(&subject, &request);
        let checks: Vec<String> = evaluations[0].checks.iter().map(ToString::to_string).collect();
        assert_eq!(
            checks,
            [
                "issuer is `github`: yes",
                "the rule covers the registry: no",
                "the rule covers the project: yes",
                "claim `ref` is `refs/heads/main`: yes",
                "claim `repository` is `acme/{project}`: no"
            ]
        );
        assert!(!evaluations[0].matches());
    }

    /// Fails to compile if the type implements `$trait`, because both blanket impls then apply.
    #[test]
    fn a_grant_cannot_be_copied_or_made_from_nothing_or_from_a_view() {
        macro_rules! assert_not_impl {
            ($type:ty: $($trait:path),+) => {$({
                trait AmbiguousIfImplemented<A> { fn check() {} }
                impl<T: ?Sized> AmbiguousIfImplemented<()> for T {}
                struct Implemented;
                impl<T: ?Sized + $trait> AmbiguousIfImplemented<Implemented> for T {}
                <$type as AmbiguousIfImplemented<_>>::check();
            })+};
        }
        assert_not_impl!(Grant: Clone, Default, serde::de::DeserializeOwned);
        assert_not_impl!(GrantView: Into<Arc<Grant>>, Into<Grant>, AsRef<Arc<Grant>>);
    }
}
