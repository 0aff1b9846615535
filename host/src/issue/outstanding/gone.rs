//! Credentials that are gone by the word of an operator: deleted at the registry by hand, or of a
//! registry that is not there any more.
//!
//! **Invariant:** nobody gets a credential any more from the moment at which it is set aside. It
//! leaves the list once that is on record.

use jiff::Timestamp;
use ulid::Ulid;

use super::{NextStep, Outstanding, OutstandingView, Selection};
use crate::audit::Revoker;
use crate::domain::RevocationCause;
use crate::issue::key::CredentialKey;
use crate::rules::PastGrant;

/// One of them.
pub(in crate::issue) struct Gone {
    pub(in crate::issue) view: OutstandingView,
    pub(in crate::issue) grant: PastGrant,
    pub(in crate::issue) note: Option<String>,
    /// Where it may be kept.
    pub(in crate::issue) key: Option<CredentialKey>,
}

impl Outstanding {
    /// Nothing is due for these any more.
    pub(in crate::issue) fn set_aside(
        &self,
        selection: &Selection,
        (by, now): (&Revoker, Timestamp),
    ) -> Vec<Gone> {
        let mut state = self.lock();
        let mut gone = Vec::new();
        for id in state.selected(selection) {
            let Some(credential) = state.credentials.get_mut(&id) else { continue };
            credential.next = NextStep::End(RevocationCause::Operator);
            credential.by = Some(by.clone());
            let due = credential.due.take();
            let (view, grant) = (credential.view(now), credential.grant.clone());
            let (note, key) = (credential.note.clone(), credential.key.clone());
            gone.push(Gone { view, grant, note, key });
            if let Some(due) = due {
                state.due.remove(&(due, id));
            }
        }
        gone
    }

    /// It is on record that this one is gone.
    pub(in crate::issue) fn forget_gone(&self, id: Ulid) {
        self.lock().forget(id);
        self.left.notify_waiters();
    }

    /// It could not be recorded, so the broker ends this one.
    pub(in crate::issue) fn put_back(&self, id: Ulid, now: Timestamp) {
        self.lock().schedule(id, now);
    }
}
