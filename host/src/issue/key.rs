//! Which requests may be answered with the same credential.
//!
//! **Invariant (I5):** two requests have equal keys only if a credential that is issued for one of
//! them opens exactly what the grant of the other one approves. Each part of the key stands for
//! something that decides what a credential opens, or for whom.

use ulid::Ulid;

use super::tenure::Place;
use crate::config::Share;
use crate::domain::{Actions, Project, RegistryName};
use crate::registries::Epoch;
use crate::rules::Grant;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CredentialKey {
    registry: RegistryName,
    epoch: Epoch,
    project: Project,
    actions: Actions,
    sharer: Sharer,
    /// Of a repository that brokers manage together.
    tenure: Option<Ulid>,
}

/// The callers that share a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sharer {
    Subject {
        issuer: String,
        sub: String,
    },
    Everybody,
    /// Nobody: the key of one request.
    Request(Ulid),
}

/// The purpose of one mint. Requests of another lifetime do not wait for it: its credential may end
/// too soon for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MintKey {
    pub(super) credential: CredentialKey,
    pub(super) lifetime: u32,
}

impl CredentialKey {
    /// `epoch` and `share` are those of the grant's registry.
    pub(super) fn new(grant: &Grant, epoch: Epoch, share: Share) -> Self {
        let subject = grant.subject();
        let sharer = match share {
            Share::Subject => {
                Sharer::Subject { issuer: subject.issuer.clone(), sub: subject.sub.clone() }
            }
            Share::Project => Sharer::Everybody,
            Share::Off => Sharer::Request(grant.id()),
        };
        Self {
            registry: grant.registry().clone(),
            epoch,
            project: grant.project().clone(),
            actions: grant.actions(),
            sharer,
            tenure: None,
        }
    }

    /// The key of what was minted in this tenure of its repository.
    pub(super) fn of_tenure(self, tenure: Ulid) -> Self {
        Self { tenure: Some(tenure), ..self }
    }

    /// Whether another request can have this key.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.sharer, Sharer::Request(_))
    }

    /// The repository that it is for.
    pub(super) fn place(&self) -> Place {
        (self.registry.clone(), self.project.clone())
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl MintKey {
    /// Everything in it, for its name in a store that brokers share.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let CredentialKey { registry, epoch, project, actions, sharer, tenure } = &self.credential;
        let sharer = match sharer {
            Sharer::Subject { issuer, sub } => ["subject", issuer, sub].map(str::to_owned),
            Sharer::Everybody => ["everybody", "", ""].map(str::to_owned),
            Sharer::Request(id) => ["request".to_owned(), id.to_string(), String::new()],
        };
        let texts = [registry.as_str(), project.as_str(), &actions.to_string()].map(str::to_owned);
        let parts = texts.into_iter().chain(sharer).map(String::into_bytes);
        let tenure = tenure.map_or_else(Vec::new, |tenure| tenure.to_bytes().to_vec());
        let lifetime = self.lifetime.to_le_bytes().to_vec();
        parts.chain([epoch.bytes().to_vec(), lifetime, tenure]).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Claims, Lifetime, Subject};
    use crate::rules::{AccessRequest, Known, RuleFile, Rules};

    /// One request, and what it is granted.
    #[derive(Clone, Copy, Debug)]
    struct Asked {
        id: u128,
        issuer: &'static str,
        sub: &'static str,
        registry: &'static str,
        project: &'static str,
        actions: Actions,
        epoch: u8,
        tenure: Option<u128>,
    }

    const ASKED: Asked = Asked {
        id: 1,
        issuer: "github",
        sub: "ci",
        registry: "prod",
        project: "my-app",
        actions: Actions::PULL,
        epoch: 1,
        tenure: None,
    };

    fn key(asked: Asked, share: Share) -> CredentialKey {
        let rule = |issuer: &str| -> RuleFile {
            serde_json::from_value(json!({
                "name": issuer, "issuer": issuer, "claims": { "all": "yes" }, "projects": ["*"],
                "registries": ["prod", "dev"], "allow": ["pull", "push"],
            }))
            .unwrap()
        };
        let known =
            Known::new(["github", "gitlab"], ["prod", "dev"].map(|name| name.parse().unwrap()));
        let rules = Rules::parse(vec![rule("github"), rule("gitlab")], &known).unwrap();
        let claims = Claims::from_iter([("all".to_owned(), json!("yes"))]);
        let subject = Subject { issuer: asked.issuer.into(), sub: asked.sub.into(), claims };
        let request = AccessRequest {
            id: Ulid(asked.id),
            registry: asked.registry.parse().unwrap(),
            project: asked.project.parse().unwrap(),
            actions: Some(asked.actions),
            lifetime: Lifetime::default(),
            client: None,
        };
        let grant = rules.authorize(subject, request).unwrap();
        let key = CredentialKey::new(&grant, Epoch::of_test(asked.epoch), share);
        match asked.tenure {
            Some(tenure) => key.of_tenure(Ulid(tenure)),
            None => key,
        }
    }

    /// Each part of the key alone tells two requests apart. Whoever removes one meets a row here.
    #[test]
    fn every_part_of_the_key_counts_alone() {
        let everybody = [Share::Subject, Share::Project, Share::Off];
        for (part, other, apart) in [
            ("registry", Asked { registry: "dev", ..ASKED }, &everybody[..]),
            ("epoch", Asked { epoch: 2, ..ASKED }, &everybody),
            ("project", Asked { project: "my-app-2", ..ASKED }, &everybody),
            ("actions", Asked { actions: Actions::PULL_AND_PUSH, ..ASKED }, &everybody),
            ("issuer", Asked { issuer: "gitlab", ..ASKED }, &[Share::Subject]),
            ("sub", Asked { sub: "cd", ..ASKED }, &[Share::Subject]),
            ("request", Asked { id: 2, ..ASKED }, &[Share::Off]),
            ("tenure", Asked { tenure: Some(1), ..ASKED }, &everybody),
            ("none", ASKED, &[]),
        ] {
            for share in everybody {
                let differs = key(ASKED, share) != key(other, share);
                assert_eq!(differs, apart.contains(&share), "{part} with {share:?}");
            }
        }
    }
}
