//! Who has a credential, and what follows when somebody gives it back, on whichever broker.

use jiff::Timestamp;
use ulid::Ulid;

use super::can_end;
use crate::config::Share;
use crate::domain::RevocationCause;
use crate::issue::end_early::{EndRequest, EndedEarly};
use crate::issue::minted::Minted;
use crate::issue::outstanding::{KnownHold, LocalHold};
use crate::issue::shared::MOST_LATE;
use crate::issue::shared_outstanding::{HoldAnswer, SharedEntry, SharedOutstanding, SharedReturn};
use crate::issue::{IssueError, Issuing};
use crate::registries::{Registries, Registry};
use crate::rules::Grant;
use crate::shared::{Reason, StoreUnavailable};

impl Issuing {
    /// A request is about to be answered with a credential. Returns whether it may be: not if it
    /// ends. While the store is away, only what this broker minted is good: another one may have
    /// ended the rest.
    pub(in crate::issue) async fn hold(
        &self,
        minted: &Minted,
        grant: &Grant,
        registry: &Registry,
    ) -> bool {
        let by = minted.by;
        let here = self.0.outstanding.hold(by, grant, self.0.clock.now());
        let asks = minted.is_endable(registry) && here != LocalHold::Ending;
        let Some(list) = self.0.together.as_ref().filter(|_| asks) else {
            return match here {
                LocalHold::Held => true,
                LocalHold::Ending => false,
                LocalHold::NotListed => !minted.is_noted(),
            };
        };
        let is_good_here = minted.is_ours && (here == LocalHold::Held || !minted.is_noted());
        let may = match hold_together(list, minted, grant).await {
            Ok(HoldAnswer::Held) => true,
            Ok(HoldAnswer::Ending) => false,
            Ok(HoldAnswer::Missing) => {
                self.0.outstanding.lost(by);
                is_good_here
            }
            Err(_) => {
                self.0.outstanding.set_listed(by, false);
                is_good_here
            }
        };
        if !may {
            self.0.outstanding.release(by, grant);
        }
        may
    }

    /// The request was not answered with it after all.
    pub(in crate::issue) async fn release(
        &self,
        minted: &Minted,
        grant: &Grant,
        registry: &Registry,
    ) {
        self.0.outstanding.release(minted.by, grant);
        let list = self.0.together.as_ref().filter(|_| minted.is_endable(registry));
        if let Some(list) = list {
            // If this fails, it is held to its end.
            let _ = list.release(minted.by, grant.id()).await;
        }
    }

    /// A caller gives back what it got by `request`, from whichever broker.
    pub(in crate::issue) async fn give_back_together(
        &self,
        list: &SharedOutstanding,
        request: Ulid,
        asked: &EndRequest<'_>,
        registries: &Registries,
    ) -> Result<EndedEarly, IssueError> {
        let owner = asked.subject.digest();
        let known = self.0.outstanding.known_hold(request, &owner);
        if let Some(known) = known.filter(|known| !known.is_listed) {
            let _ = self.tell_others_of(list, known.minted_by).await;
        }
        let minted_by = known.map_or(request, |known| known.minted_by);
        let has_others = known.is_some_and(|known| known.has_others);
        match list.give_back((request, minted_by), &owner, has_others).await {
            Ok(SharedReturn::Ended) => {
                self.forget_kept(self.0.outstanding.ended_elsewhere(minted_by), minted_by);
                Ok(EndedEarly::Ended)
            }
            Ok(SharedReturn::Unsupported(entry)) => Ok(EndedEarly::Unsupported(Some(entry.ends))),
            Ok(SharedReturn::Another) if known.is_none() => Ok(EndedEarly::Unknown(true)),
            Ok(SharedReturn::Unknown | SharedReturn::Another) => {
                self.0.outstanding.lost(minted_by);
                self.give_back_here(request, asked, registries).await
            }
            Ok(SharedReturn::Shared(entry)) => {
                self.0.outstanding.returned(entry.grant.id, request, &owner);
                self.returned(request, asked, &entry.grant).await?;
                Ok(EndedEarly::Shared(entry.ends))
            }
            Ok(SharedReturn::Last(entry)) => {
                self.end_last(list, (request, entry), asked, registries).await
            }
            Err(unavailable) => {
                self.give_back_alone(unavailable, (request, known), asked, registries).await
            }
        }
    }

    /// Nobody but this caller has it, so it ends: here, or, if this broker cannot, where it was
    /// minted.
    async fn end_last(
        &self,
        list: &SharedOutstanding,
        (request, entry): (Ulid, SharedEntry),
        asked: &EndRequest<'_>,
        registries: &Registries,
    ) -> Result<EndedEarly, IssueError> {
        let (id, by) = (entry.grant.id, asked.revoker());
        self.returned(request, asked, &entry.grant).await?;
        if can_end(registries, &entry).is_none() {
            return Ok(EndedEarly::Ending);
        }
        // If this fails, the broker that has it ends it.
        if list.take(&[id], true).await.is_ok() {
            let cause = (Some(RevocationCause::Returned), Some(&by));
            let key = self.0.outstanding.adopt(entry, cause, self.0.clock.now());
            self.forget_kept(key, id);
            self.end_due(registries);
        }
        if self.0.outstanding.has(id) {
            return Ok(self.until_ended(id, asked.deadline).await);
        }
        Ok(EndedEarly::Ending)
    }

    /// The same while the store is away: this broker knows what it has minted, and ends it if
    /// nobody on another broker can have it.
    async fn give_back_alone(
        &self,
        unavailable: StoreUnavailable,
        (request, known): (Ulid, Option<KnownHold>),
        asked: &EndRequest<'_>,
        registries: &Registries,
    ) -> Result<EndedEarly, IssueError> {
        match known {
            Some(known) if known.has_others || !self.may_be_shared(known.minted_by, registries) => {
                self.give_back_here(request, asked, registries).await
            }
            Some(_) => Err(unavailable.into()),
            None => match self.not_on_the_list(request, asked).await? {
                EndedEarly::Unknown(false) => Err(unavailable.into()),
                ended @ (EndedEarly::Unknown(true)
                | EndedEarly::Ended
                | EndedEarly::Ending
                | EndedEarly::Shared(_)
                | EndedEarly::Unsupported(_)) => Ok(ended),
            },
        }
    }

    /// Whether a caller of another broker may have it.
    fn may_be_shared(&self, id: Ulid, registries: &Registries) -> bool {
        let registry = self.0.outstanding.registry_of(id);
        let registry = registry.and_then(|name| registries.find(&name));
        registry.is_none_or(|registry| registry.share != Share::Off)
    }
}

/// A late answer is no reason to mint another one: it may be a busy moment. Who was counted and
/// did not get it holds it to its end.
async fn hold_together(
    list: &SharedOutstanding,
    minted: &Minted,
    grant: &Grant,
) -> Result<HoldAnswer, StoreUnavailable> {
    let tries = if minted.is_ours { 1 } else { MOST_LATE };
    let ends = minted.credentials.expires_at.unwrap_or(Timestamp::MAX);
    let mut answer = Ok(HoldAnswer::Missing);
    for _ in 0..tries {
        let by = (grant.id(), &grant.subject().digest());
        answer = list.hold((minted.by, ends), by).await;
        if !matches!(answer, Err(StoreUnavailable(Reason::Slow))) {
            break;
        }
    }
    answer
}
