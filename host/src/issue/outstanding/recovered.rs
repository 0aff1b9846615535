//! What an earlier process has left, as its audit log has it.

use jiff::Timestamp;
use ulid::Ulid;

use super::pace::later;
use super::{NextStep, Outstanding};
use crate::audit::PastIssue;
use crate::domain::{EndedBy, RevocationCause};

/// A login of ECR works for twelve hours, in seconds. The rest is for clocks.
const LONGEST_LOGIN: i64 = 14 * 3600;

impl Outstanding {
    /// What the audit log of an earlier process has.
    pub(in crate::issue) fn recovered(&self, past: PastIssue, now: Timestamp) {
        let mut state = self.lock();
        let id = past.grant.id;
        let (next, due) = match (past.was_minted, past.ended_by, past.expires_at) {
            (true, EndedBy::Registry, Some(end)) => (NextStep::Forget, end),
            (true, EndedBy::Broker, Some(end)) => (NextStep::End(RevocationCause::GrantedEnd), end),
            (true, _, None) => (NextStep::End(RevocationCause::GrantedEnd), now),
            (false, ..) => (NextStep::End(RevocationCause::NotIssued), now),
        };
        state.add(past.grant, past.remembered, next, (due, now));
        if let Some(credential) = state.credentials.get_mut(&id)
            && past.is_session
        {
            // What was to end before its time has no end in the list, and ends by itself.
            credential.is_session = true;
            credential.ends = past.expires_at.unwrap_or_else(|| session_end(id, now));
        }
        for (request, owner) in past.holders {
            state.hold(id, request, owner);
        }
    }
}

/// When no login of the session that was opened for this mint works any more.
fn session_end(mint: Ulid, now: Timestamp) -> Timestamp {
    let minted = i64::try_from(mint.timestamp_ms()).ok();
    let minted = minted.and_then(|at| Timestamp::from_millisecond(at).ok());
    later(minted.unwrap_or(now), LONGEST_LOGIN)
}
