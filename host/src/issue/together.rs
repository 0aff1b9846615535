//! What brokers that share a store do for each other's credentials (`shared_outstanding`).
//!
//! A broker tells the others of each credential when it is minted, and again if the store has
//! forgotten it. It ends its own, and what others have minted when a caller or an operator says so
//! here, or when its time has come and its broker is gone.
//!
//! **Invariant:** while the store is away, each broker ends what is on its own list.

mod held;
mod selected;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use ulid::Ulid;

use super::Issuing;
use super::key::CredentialKey;
use super::shared::MOST_LATE;
use super::shared_outstanding::{
    COMPARED, Compared, Found, Listing, SharedEntry, SharedOutstanding,
};
use crate::registries::{Registries, Registry};
use crate::shared::{Reason, StoreUnavailable};
pub(super) use selected::Reach;

/// How long a credential waits for a broker with the settings that minted it, before one with
/// other settings tries.
const OTHER_SETTINGS: SignedDuration = SignedDuration::from_mins(5);

impl Issuing {
    /// Tells the other brokers what is out here, does what they want to end, and takes over what
    /// nobody ends. Call it every few seconds.
    pub async fn follow_others(&self, registries: &Registries) {
        let Some(list) = &self.0.together else { return };
        // A failure is logged by the store's own episode, and repaired the next time.
        let _ = self.follow(list, registries).await;
    }

    async fn follow(
        &self,
        list: &SharedOutstanding,
        registries: &Registries,
    ) -> Result<(), StoreUnavailable> {
        list.live(true).await?;
        list.finish_untold().await?;
        if let Some(tenures) = &self.0.tenures {
            tenures.end_untold().await?;
        }
        for id in self.0.outstanding.unlisted() {
            if self.tell_others_of(list, id).await? == Listing::Full {
                break;
            }
        }
        let own = self.0.outstanding.listed(self.0.clock.now());
        for part in own.chunks(COMPARED) {
            for ((id, _), compared) in part.iter().zip(list.compare(part).await?) {
                let outstanding = &self.0.outstanding;
                let key = match compared {
                    Compared::Ours => None,
                    Compared::OursNow(cause) => {
                        outstanding.end_as_told(*id, (cause, None), self.0.clock.now())
                    }
                    Compared::Theirs => {
                        outstanding.is_elsewhere(*id);
                        None
                    }
                    Compared::Leaving => outstanding.is_elsewhere(*id),
                    Compared::Missing => {
                        outstanding.lost(*id);
                        None
                    }
                    Compared::Ended => outstanding.ended_elsewhere(*id),
                };
                self.forget_kept(key, *id);
            }
        }
        self.take_over(list, registries).await
    }

    /// Ends what is due and what no other broker who lives ends.
    async fn take_over(
        &self,
        list: &SharedOutstanding,
        registries: &Registries,
    ) -> Result<(), StoreUnavailable> {
        let (mut over, mut is_last, mut taken_over) = (0, false, 0);
        // A store that lies may have more of them than there can be.
        for _ in 0..list.parts() {
            if is_last || self.0.outstanding.is_full() {
                break;
            }
            let due = list.due(over).await?;
            (over, is_last) = (due.over, due.is_last);
            let now = self.0.clock.now();
            let is_for_us = |found: &Found| {
                // This broker may be in the entry and not know: an answer to it was late.
                !self.0.outstanding.has(found.entry.grant.id)
                    && may_take_over(registries, &found.entry, now)
            };
            let found: Vec<Found> = due.entries.into_iter().filter(is_for_us).collect();
            taken_over += self.take(list, found, false).await?;
        }
        if taken_over > 0 {
            tracing::warn!(
                credentials = taken_over,
                "ends credentials that another broker has minted, which is gone or cannot"
            );
            self.end_due(registries);
        }
        Ok(())
    }

    /// Puts entries on this broker's own list, if nobody else ends them or if `by_force`. Returns
    /// how many.
    async fn take(
        &self,
        list: &SharedOutstanding,
        found: Vec<Found>,
        by_force: bool,
    ) -> Result<usize, StoreUnavailable> {
        if found.is_empty() {
            return Ok(0);
        }
        let ids: Vec<_> = found.iter().map(|found| found.entry.grant.id).collect();
        let taken = list.take(&ids, by_force).await?;
        let now = self.0.clock.now();
        let ours = found.into_iter().zip(taken).filter(|(_, is_ours)| *is_ours);
        let mut count = 0;
        for (found, _) in ours {
            self.0.outstanding.adopt(found.entry, (found.ending, None), now);
            count += 1;
        }
        Ok(count)
    }

    /// Tells the others of a credential that was minted a moment ago. They do not mint another one
    /// because of one late answer. A failure is repaired later.
    pub(super) async fn tell_others(&self, id: Ulid) {
        let Some(list) = &self.0.together else { return };
        for _ in 0..MOST_LATE {
            let told = self.tell_others_of(list, id).await;
            if !matches!(told, Err(StoreUnavailable(Reason::Slow))) {
                return;
            }
        }
    }

    pub(super) async fn tell_others_of(
        &self,
        list: &SharedOutstanding,
        id: Ulid,
    ) -> Result<Listing, StoreUnavailable> {
        let Some(listed) = self.0.outstanding.for_others(id) else { return Ok(Listing::Listed) };
        // A holder that comes meanwhile makes it unlisted again.
        self.0.outstanding.set_listed(id, true);
        let told = list.list(&listed).await;
        match told {
            Ok(Listing::Listed) => {}
            Ok(Listing::Full) | Err(_) => self.0.outstanding.set_listed(id, false),
            Ok(Listing::Ended) => {
                self.forget_kept(self.0.outstanding.ended_elsewhere(id), id);
            }
        }
        told
    }

    /// This broker ends: others need not wait for it.
    pub(crate) async fn leave_others(&self) {
        if let Some(list) = &self.0.together {
            let _ = list.live(false).await;
        }
    }

    /// How many credentials the brokers together can end. `None`: this broker shares nothing.
    pub fn outstanding_together(&self) -> Option<u64> {
        self.0.together.as_ref().map(|list| list.listed())
    }

    /// The credential is about to end: nobody gets it any more.
    pub(super) fn forget_kept(&self, key: Option<CredentialKey>, id: Ulid) {
        if let Some(key) = key {
            self.0.cache.forget(&key, id);
        }
    }
}

/// The registry that a credential can be ended with here.
pub(super) fn can_end<'a>(
    registries: &'a Registries,
    entry: &SharedEntry,
) -> Option<&'a Arc<Registry>> {
    let registry = registries.find(&entry.grant.registry)?;
    let can = if entry.is_session { registry.denials().is_some() } else { registry.revokes() };
    can.then_some(registry)
}

fn may_take_over(registries: &Registries, entry: &SharedEntry, now: Timestamp) -> bool {
    let Some(registry) = can_end(registries, entry) else { return false };
    if entry.is_session && entry.ends <= now {
        return false;
    }
    entry.epoch.is_none_or(|epoch| epoch == registry.epoch)
        || now.duration_since(entry.ends) > OTHER_SETTINGS
}
