//! Who has a credential of this list, and what follows when somebody gives it back.

use jiff::Timestamp;
use ulid::Ulid;

use super::Outstanding;
use crate::audit::Revoker;
use crate::domain::{RevocationCause, SubjectDigest};
use crate::issue::key::CredentialKey;
use crate::rules::{Grant, PastGrant};

/// Whether this list lets a request have a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issue) enum LocalHold {
    Held,
    Ending,
    NotListed,
}

/// What follows when a caller gives a credential back.
pub(in crate::issue) enum GivenBack {
    /// This subject did not get it by this request, or has given it back.
    Unknown,
    /// Others have it, so it goes on until then.
    Shared(PastGrant, Timestamp),
    Ending(PastGrant, Option<CredentialKey>),
}

impl Outstanding {
    /// A request is about to be answered with a credential: not if it ends.
    pub(in crate::issue) fn hold(
        &self,
        minted_by: Ulid,
        grant: &Grant,
        now: Timestamp,
    ) -> LocalHold {
        let mut state = self.lock();
        match state.credentials.get(&minted_by) {
            None => return LocalHold::NotListed,
            Some(known) if known.is_ending(now) => return LocalHold::Ending,
            Some(_) => {}
        }
        state.hold(minted_by, grant.id(), grant.subject().digest());
        LocalHold::Held
    }

    /// The request was not answered with it after all.
    pub(in crate::issue) fn release(&self, minted_by: Ulid, grant: &Grant) {
        let mut state = self.lock();
        let (request, owner) = (grant.id(), grant.subject().digest());
        if let Some(credential) = state.credentials.get_mut(&minted_by)
            && credential.holders.remove(request, &owner)
        {
            state.sharing.remove(&request);
        }
    }

    /// The subject of `owner` gives back what it got by this request. The last who does so ends the
    /// credential.
    pub(in crate::issue) fn give_back(
        &self,
        request: Ulid,
        owner: &SubjectDigest,
        (by, now): (&Revoker, Timestamp),
    ) -> GivenBack {
        let mut state = self.lock();
        let id = state.sharing.get(&request).copied().unwrap_or(request);
        let Some(credential) = state.credentials.get_mut(&id) else { return GivenBack::Unknown };
        if credential.is_session || !credential.holders.remove(request, owner) {
            return GivenBack::Unknown;
        }
        let grant = credential.grant.clone();
        if !credential.holders.is_empty() && !credential.is_ending(now) {
            let ends = credential.ends;
            state.sharing.remove(&request);
            return GivenBack::Shared(grant, ends);
        }
        // Known until it has ended, so that the same request can be repeated.
        credential.holders.add(request, *owner, true);
        let key = credential.key.clone();
        state.end(id, RevocationCause::Returned, (by, now));
        GivenBack::Ending(grant, key)
    }
}
