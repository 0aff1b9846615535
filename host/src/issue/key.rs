//! Which requests may be answered with the same credential.
//!
//! **Invariant (I5):** two requests have equal keys only if a credential that is issued for one of
//! them opens exactly what the grant of the other one approves. Each part of the key stands for
//! something that decides what a credential opens, or for whom.

use ulid::Ulid;

use crate::config::Share;
use crate::domain::{Actions, Project, RegistryName};
use crate::registries::{Epoch, Registry};
use crate::rules::Grant;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CredentialKey {
    registry: RegistryName,
    epoch: Epoch,
    project: Project,
    actions: Actions,
    sharer: Sharer,
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
    pub(super) fn new(grant: &Grant, registry: &Registry) -> Self {
        let subject = grant.subject();
        let sharer = match registry.share {
            Share::Subject => {
                Sharer::Subject { issuer: subject.issuer.clone(), sub: subject.sub.clone() }
            }
            Share::Project => Sharer::Everybody,
            Share::Off => Sharer::Request(grant.id()),
        };
        Self {
            registry: grant.registry().clone(),
            epoch: registry.epoch,
            project: grant.project().clone(),
            actions: grant.actions(),
            sharer,
        }
    }

    /// Whether another request can have this key.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.sharer, Sharer::Request(_))
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }
}
