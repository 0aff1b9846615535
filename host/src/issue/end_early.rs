//! Ends credentials before their time: for a caller who gives back what it got, and for operators.
//!
//! **Invariant:** a credential that is about to end leaves the cache first.
//! **Invariant:** a caller ends nothing that somebody else still has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use ulid::Ulid;

use super::ended::EndMark;
use super::outstanding::{GivenBack, Gone, OutstandingView, Selection};
use super::together::Reach;
use super::{IssueError, Issuing, RESERVE};
use crate::audit::{
    AuditError, BeyondReach, Folder, PastAnswer, PastSelection, RevocationRequestFacts, Revoker,
    answer_of, beyond_reach,
};
use crate::domain::{ClientAddress, Deadline, Subject};
use crate::registries::Registries;
use crate::rules::PastGrant;
use crate::shared::{Reason, StoreUnavailable};

/// How long a caller waits for the registry. The broker goes on without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who wants something to end, and by which request.
pub struct EndRequest<'a> {
    pub id: Ulid,
    /// `None`: a user of the broker's machine.
    pub client: Option<ClientAddress>,
    pub subject: &'a Subject,
    pub deadline: Deadline,
}

/// What became of a credential that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedEarly {
    Ended,
    /// The registry has not confirmed it yet. The broker tries until it does.
    Ending,
    /// Others have it too. It ends when they have given it back, or then.
    Shared(Timestamp),
    /// Nobody can end it before that. `None`: it does not expire.
    Unsupported(Option<Timestamp>),
    /// This subject got nothing by this request. `true`: somebody else did.
    Unknown(bool),
}

impl Issuing {
    /// A caller gives back what it got by `request`.
    pub async fn give_back(
        &self,
        request: Ulid,
        asked: &EndRequest<'_>,
        registries: &Registries,
    ) -> Result<EndedEarly, IssueError> {
        self.0.audit.check()?;
        if let Some(list) = &self.0.together {
            return self.give_back_together(list, request, asked, registries).await;
        }
        self.give_back_here(request, asked, registries).await
    }

    /// The same for what is on this broker's own list.
    pub(super) async fn give_back_here(
        &self,
        request: Ulid,
        asked: &EndRequest<'_>,
        registries: &Registries,
    ) -> Result<EndedEarly, IssueError> {
        let (owner, now) = (asked.subject.digest(), self.0.clock.now());
        match self.0.outstanding.give_back(request, &owner, (&asked.revoker(), now)) {
            GivenBack::Ending(credential, key) => {
                self.forget_kept(key, credential.id);
                self.returned(request, asked, &credential).await?;
                self.end_due(registries);
                Ok(self.until_ended(credential.id, asked.deadline).await)
            }
            GivenBack::Shared(credential, ends) => {
                self.returned(request, asked, &credential).await?;
                Ok(EndedEarly::Shared(ends))
            }
            GivenBack::Unknown => self.not_on_the_list(request, asked).await,
        }
    }

    /// Waits for the end of a credential, as long as a caller may.
    pub async fn until_ended(&self, minted_by: Ulid, deadline: Deadline) -> EndedEarly {
        let until = deadline.less(RESERVE).within(PATIENCE);
        let left = self.0.outstanding.until_left(minted_by);
        let ended = timeout_at(until.instant().into(), left).await;
        if ended.is_ok() { EndedEarly::Ended } else { EndedEarly::Ending }
    }

    pub(super) async fn returned(
        &self,
        request: Ulid,
        asked: &EndRequest<'_>,
        credential: &PastGrant,
    ) -> Result<(), IssueError> {
        let Some(client) = asked.client else { return Ok(()) };
        let by = (asked.id, client, asked.subject);
        Ok(self.0.audit.revoke_returned(by, request, credential).await?)
    }

    /// What the audit log knows of a credential that is not on the list, or not with this holder.
    pub(super) async fn not_on_the_list(
        &self,
        request: Ulid,
        asked: &EndRequest<'_>,
    ) -> Result<EndedEarly, IssueError> {
        let found = self.look_up(asked.deadline, move |folder| answer_of(folder, request)).await?;
        let Some(answer) = found else { return Ok(EndedEarly::Unknown(false)) };
        if answer.owner != asked.subject.digest() {
            return Ok(EndedEarly::Unknown(true));
        }
        self.known(&answer).await
    }

    async fn known(&self, answer: &PastAnswer) -> Result<EndedEarly, IssueError> {
        let PastAnswer { minted_by, expires_at, can_end, has_ended, .. } = *answer;
        let is_over = expires_at.is_some_and(|end| end <= self.0.clock.now());
        if has_ended || is_over {
            return Ok(EndedEarly::Ended);
        }
        if let Some(list) = &self.0.together
            && can_end
            && let Some(mark) = list.mark(minted_by).await?
        {
            return Ok(match mark {
                EndMark::Ended => EndedEarly::Ended,
                EndMark::Ending => EndedEarly::Ending,
            });
        }
        let is_here = self.0.outstanding.has(minted_by);
        if self.0.together.is_some() && can_end && !is_here {
            // Another broker minted it, and the store has forgotten that for a moment.
            return Err(StoreUnavailable(Reason::Forgetful).into());
        }
        Ok(match expires_at {
            // This caller has given it back before, and others have not.
            Some(end) if can_end && is_here => EndedEarly::Shared(end),
            expires_at => EndedEarly::Unsupported(expires_at),
        })
    }

    /// What nobody can end, as far as the audit log knows.
    pub async fn beyond_reach(
        &self,
        selection: &Selection,
        (deadline, registries): (Deadline, &Registries),
    ) -> Result<Vec<BeyondReach>, IssueError> {
        let elsewhere = if registries.iter().any(|registry| registry.denials().is_some()) {
            // If the others cannot be asked, the request fails when it has ended what is here.
            self.found_together(selection, deadline).await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let longest = registries.iter().map(|registry| registry.max_lifetime).max().unwrap_or(0);
        let times = (SignedDuration::from_secs(i64::from(longest)), self.0.clock.now());
        let Selection { project, registries, subject, request, adopted: _ } = selection.clone();
        let past = PastSelection { project, registries, subject, request };
        let elsewhere: BTreeSet<Ulid> = elsewhere.iter().map(|it| it.entry.grant.id).collect();
        let issuing = self.clone();
        let is_within = move |id| elsewhere.contains(&id) || issuing.0.outstanding.has(id);
        let read = move |folder: &Folder| beyond_reach(folder, &past, times, is_within);
        self.look_up(deadline, read).await
    }

    /// Reads the audit log. One read goes on at a time.
    async fn look_up<T: Send + 'static>(
        &self,
        deadline: Deadline,
        read: impl FnOnce(&Folder) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, IssueError> {
        let until = deadline.less(RESERVE).instant().into();
        let turn = timeout_at(until, Arc::clone(&self.0.lookups).acquire_owned()).await;
        let turn = turn.map_err(|_| IssueError::Overloaded)?;
        let folder = self.0.audit.folder();
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&folder)
        });
        let read = timeout_at(until, reading).await.map_err(|_| IssueError::Overloaded)?;
        let read = read.map_err(|error| IssueError::Internal(error.to_string()))?;
        read.map_err(|error| IssueError::Internal(format!("the audit log: {error}")))
    }

    /// An operator ends credentials. Returns when that is recorded; the broker ends them one after
    /// the other.
    pub async fn end_selected(
        &self,
        selection: &Selection,
        asked: &EndRequest<'_>,
        facts: RevocationRequestFacts<'_>,
        registries: &Registries,
    ) -> Result<Vec<OutstandingView>, IssueError> {
        let (reach, adopted) =
            self.adopt_selected(selection, (registries, false), asked.deadline).await;
        self.requested(&reach, asked, facts).await?;
        let by = (&asked.revoker(), self.0.clock.now());
        let (mut credentials, kept) = self.0.outstanding.end_selected(&reach.selection, by);
        for (minted_by, key) in kept {
            self.0.cache.forget(&key, minted_by);
        }
        self.end_due(registries);
        credentials.extend(self.end_elsewhere(reach.elsewhere).await?);
        credentials.sort_by_key(|credential| credential.minted_by);
        // If the others could not be asked, their credentials are still out.
        adopted.map(|()| credentials)
    }

    /// Records what an operator ends.
    async fn requested(
        &self,
        reach: &Reach,
        asked: &EndRequest<'_>,
        facts: RevocationRequestFacts<'_>,
    ) -> Result<(), IssueError> {
        let here = self.0.outstanding.select(&reach.selection, self.0.clock.now());
        let credentials = here.len() + reach.elsewhere.len();
        let by = (asked.id, asked.client, asked.subject);
        let facts = RevocationRequestFacts { credentials, ..facts };
        Ok(self.0.audit.revoke_requested(by, &facts).await?)
    }
}

/// Records that are written at once. They share their syncs.
const AT_ONCE: usize = 64;

impl Issuing {
    /// Takes the word of an operator that credentials are gone. Returns when that is recorded. The
    /// broker ends those that cannot be recorded.
    pub async fn forget_selected(
        &self,
        selection: &Selection,
        asked: &EndRequest<'_>,
        facts: RevocationRequestFacts<'_>,
        registries: &Registries,
    ) -> Result<Vec<OutstandingView>, IssueError> {
        let (reach, adopted) =
            self.adopt_selected(selection, (registries, true), asked.deadline).await;
        self.requested(&reach, asked, facts).await?;
        let by = asked.revoker();
        let gone = self.0.outstanding.set_aside(&reach.selection, (&by, self.0.clock.now()));
        let mut views = Vec::new();
        let mut failed = None;
        let mut gone = gone.into_iter().peekable();
        while gone.peek().is_some() {
            let mut writing = JoinSet::new();
            for one in gone.by_ref().take(AT_ONCE) {
                views.push(one.view.clone());
                let (issuing, by) = (self.clone(), by.clone());
                writing.spawn(async move { issuing.forget(one, &by).await });
            }
            for written in writing.join_all().await {
                failed = written.err().or(failed);
            }
        }
        failed.map_or(Ok(()), |error| Err(IssueError::from(error)))?;
        adopted.map(|()| views)
    }

    async fn forget(&self, gone: Gone, by: &Revoker) -> Result<(), AuditError> {
        let Gone { view, grant, note, key } = gone;
        let id = grant.id;
        self.forget_kept(key, id);
        let recorded = self.0.audit.revoke_gone(&grant.revived(), note.as_deref(), by).await;
        match recorded {
            Ok(()) => {
                self.0.outstanding.forget_gone(id);
                if let Some(list) = &self.0.together {
                    list.finish(id, view.expires_at).await;
                }
            }
            Err(_) => self.0.outstanding.put_back(id, self.0.clock.now()),
        }
        recorded
    }
}

impl EndRequest<'_> {
    pub(super) fn revoker(&self) -> Revoker {
        let Subject { issuer, sub, .. } = self.subject;
        Revoker { issuer: issuer.clone(), sub: sub.clone(), request: self.id }
    }
}
