//! The list of what is out, which several brokers share so that each of them can end it.
//!
//! Each broker's own list is what it has to end; this one is a copy that the brokers keep for each
//! other (`together` says when). The store learns when a credential ends and how many hold it: its
//! content is sealed, and names are digests.
//!
//! **Invariant:** one broker at a time ends a credential: the one in `by`, for as long as it shows
//! a sign of life.
//! **Invariant:** a caller gives back what it got, and nothing else: a field of a holder is made of
//! its request and its subject, with a key that the store does not have, and what leads from a
//! request to the credential of another one is sealed.
//! **Invariant:** a broker forgets a credential because another one has ended it only with a mark
//! that a broker has written (`ended`).

mod answers;
mod call;
mod entry;
mod holders;
mod pointer;
mod scripts;
mod untold;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use redis::Value;
use ulid::Ulid;

use super::ended::{EndMark, EndedMarks};
use crate::domain::{RevocationCause, SubjectDigest};
use crate::shared::{Shared, StoreUnavailable, Use};
pub(super) use answers::{Claimed, Compared, Due, Found};
use call::Call;
pub(super) use entry::SharedEntry;
use holders::Holder;
pub(super) use holders::{HoldAnswer, SharedReturn};
use pointer::Pointer;
use untold::Untold;

/// For each broker. Its own list has as many.
const MOST: usize = 50_000;
/// How long an entry stays that nobody ends, in milliseconds: no broker may be there for a while.
const LATEST: i64 = 30 * 24 * 3_600_000;
/// How long it stays after its registry has ended it. Clocks differ.
const LEEWAY: i64 = 300_000;
/// Entries in one answer.
const AT_ONCE: usize = 100;
/// Credentials that one script compares.
pub(super) const COMPARED: usize = 200;

pub(super) struct SharedOutstanding {
    shared: Arc<Shared>,
    index: String,
    /// The name of this broker's sign of life.
    me: String,
    /// How many entries the list of all brokers has at most.
    most: usize,
    /// How many credentials were on the list a moment ago.
    listed: AtomicU64,
    untold: Untold,
}

/// A credential of this broker's list, for the others.
pub(super) struct Listed {
    pub(super) entry: SharedEntry,
    pub(super) holders: Vec<(Ulid, SubjectDigest)>,
    pub(super) unknown: UnknownHolders,
}

/// Whether there are more holders than those that a broker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownHolders {
    No,
    Yes,
    /// If the store has forgotten who got it from other brokers.
    IfForgotten,
}

/// Whether others know of a credential now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    Listed,
    /// There is no room, so that only this broker can end it.
    Full,
    /// Another broker has ended it.
    Ended,
}

impl SharedOutstanding {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            index: shared.common_name("outstanding"),
            me: shared.common_name(&format!("broker:{}", Ulid::generate())),
            listed: AtomicU64::new(0),
            untold: Untold::default(),
            most: MOST.saturating_mul(usize::try_from(shared.replicas).unwrap_or(usize::MAX)),
            shared: Arc::clone(shared),
        }
    }

    /// Puts a credential on the list.
    pub(super) async fn list(&self, listed: &Listed) -> Result<Listing, StoreUnavailable> {
        let Listed { entry, holders, unknown } = listed;
        let id = entry.grant.id;
        let names = self.names(id);
        let first = names.first().map_or("", String::as_str);
        let Some(body) = self.shared.seal(entry::KIND, first, entry.text()) else {
            return Ok(Listing::Full);
        };
        let must_end = entry.cause.is_some();
        let word = match (must_end, entry.is_session) {
            (true, _) => "due",
            (false, true) => "session",
            (false, false) => "",
        };
        let left = entry.ends.as_millisecond().saturating_sub(self.now()).max(0);
        let stays = left.saturating_add(if must_end { LATEST } else { LEEWAY });
        let unknown = match unknown {
            UnknownHolders::No => "",
            UnknownHolders::Yes => "yes",
            UnknownHolders::IfForgotten => "if-forgotten",
        };
        let holders: Vec<_> =
            holders.iter().map(|(request, owner)| self.holder(id, *request, owner)).collect();
        let pointers = holders.iter().filter_map(|holder| holder.pointer.clone());
        let pointers: Vec<_> = pointers.collect();
        let marks = self.marks();
        let listed = self.word_unless_ended(scripts::LIST, id, |call| {
            let call = call.keys(marks.names(id)).keys(names.clone()).keys(pointers.clone());
            let call = call.argument(&body).number(entry.ends.as_millisecond()).number(stays);
            let call = call.argument(self.most.to_string()).argument(word).argument(unknown);
            let call = call.number(marks.stays(entry.ends));
            holders.iter().fold(call, |call, Holder { field, value, to, .. }| {
                call.argument(field).argument(value).argument(to)
            })
        });
        match listed.await?.as_deref() {
            Some(b"listed") => Ok(Listing::Listed),
            Some(b"full") => Ok(Listing::Full),
            None => Ok(Listing::Ended),
            Some(_) => Err(self.nonsense()),
        }
    }

    /// Compares credentials of this broker's list with this one. Those with a cause end now.
    pub(super) async fn compare(
        &self,
        own: &[(Ulid, Option<RevocationCause>)],
    ) -> Result<Vec<Compared>, StoreUnavailable> {
        let mut call = self.call().number(self.now());
        for (id, ends) in own {
            call = call.keys(self.marks().names(*id)).keys(self.names(*id));
            call = call.argument(ends.map_or("", RevocationCause::as_str));
        }
        let Value::Array(words) = self.run(scripts::COMPARE, call).await? else {
            return Err(self.nonsense());
        };
        if words.len() != own.len() {
            return Err(self.nonsense());
        }
        let marks = self.marks();
        let compared = words
            .iter()
            .zip(own)
            .map(|(word, (id, _))| answers::compared(word, |found| marks.read(*id, found)));
        compared.collect::<Option<_>>().ok_or_else(|| self.nonsense())
    }

    /// The credential that this request was answered with. `owner`: see [`Found::is_of`].
    pub(super) async fn find(
        &self,
        request: Ulid,
        owner: Option<SubjectDigest>,
    ) -> Result<Option<Found>, StoreUnavailable> {
        let found = self.find_minted(request, owner).await?;
        if found.is_some() {
            return Ok(found);
        }
        match self.pointer(request).await? {
            Some(Pointer { minted_by, .. }) => self.find_minted(minted_by, owner).await,
            None => Ok(None),
        }
    }

    /// The credential that was minted for this request.
    async fn find_minted(
        &self,
        minted_by: Ulid,
        owner: Option<SubjectDigest>,
    ) -> Result<Option<Found>, StoreUnavailable> {
        let mut call = self.call().keys(self.names(minted_by));
        for value in owner.iter().flat_map(|owner| self.owners(owner)) {
            call = call.argument(value);
        }
        let found = self.entries(&self.run(scripts::FIND, call).await?)?;
        Ok(found.into_iter().find(|found| found.entry.grant.id == minted_by))
    }

    /// A part of the list, from `cursor` on. Returns the next cursor, `0` at the end.
    pub(super) async fn scan(
        &self,
        cursor: &str,
        owner: Option<SubjectDigest>,
    ) -> Result<(String, Vec<Found>), StoreUnavailable> {
        let mut call = self.call().argument(cursor).argument(AT_ONCE.to_string());
        for value in owner.iter().flat_map(|owner| self.owners(owner)) {
            call = call.argument(value);
        }
        let Value::Array(parts) = self.run(scripts::SCAN, call).await? else {
            return Err(self.nonsense());
        };
        let [Value::BulkString(cursor), entries] = parts.as_slice() else {
            return Err(self.nonsense());
        };
        let cursor = String::from_utf8(cursor.clone()).map_err(|_| self.nonsense())?;
        Ok((cursor, self.entries(entries)?))
    }

    /// What is due and what no other broker who lives ends, when `over` entries were passed over.
    pub(super) async fn due(&self, over: usize) -> Result<Due, StoreUnavailable> {
        let call = self.call().number(self.now()).argument(over.to_string());
        let call = call.argument(AT_ONCE.to_string());
        let Value::Array(parts) = self.run(scripts::DUE, call).await? else {
            return Err(self.nonsense());
        };
        let [Value::Int(stay), Value::Int(looked_at), entries] = parts.as_slice() else {
            return Err(self.nonsense());
        };
        let number = |value: i64| {
            let number = usize::try_from(value).ok().filter(|number| *number <= AT_ONCE);
            number.ok_or_else(|| self.nonsense())
        };
        let is_last = number(*looked_at)? < AT_ONCE;
        let mut entries = self.entries(entries)?;
        entries.retain(|found| !self.is_untold(found.entry.grant.id));
        Ok(Due { entries, over: over + number(*stay)?, is_last })
    }

    /// In how many parts at most [`SharedOutstanding::due`] has all entries.
    pub(super) fn parts(&self) -> usize {
        self.most.div_ceil(AT_ONCE) + 1
    }

    /// How many entries it has at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// From now on this broker ends these, if nobody else does or if `by_force`. Returns for each
    /// whether it does.
    pub(super) async fn take(
        &self,
        ids: &[Ulid],
        by_force: bool,
    ) -> Result<Vec<bool>, StoreUnavailable> {
        self.each(scripts::TAKE, ids, &[if by_force { "1" } else { "0" }]).await
    }

    /// These end now, and another broker does that. Returns for each whether it is on the list.
    pub(super) async fn leave(
        &self,
        ids: &[Ulid],
        cause: RevocationCause,
    ) -> Result<Vec<bool>, StoreUnavailable> {
        self.each(scripts::LEAVE, ids, &[cause.as_str(), &self.now().to_string()]).await
    }

    /// This broker is about to end a credential, and tries for so long.
    pub(super) async fn claim(
        &self,
        id: Ulid,
        cause: RevocationCause,
        (ends, tries): (Timestamp, Duration),
    ) -> Result<Claimed, StoreUnavailable> {
        let marks = self.marks();
        let tries = i64::try_from(tries.as_millis()).unwrap_or(i64::MAX);
        let claimed = self.word_unless_ended(scripts::CLAIM, id, |call| {
            let call = call.keys(marks.names(id)).keys(self.names(id));
            let call = call.argument(cause.as_str()).number(self.now());
            let call = call.number(tries).number(marks.stays(ends));
            call.argument(marks.value(id, EndMark::Ending))
        });
        match claimed.await?.as_deref() {
            Some(b"ours") => Ok(Claimed::Ours),
            Some(b"theirs") => Ok(Claimed::Theirs),
            Some(b"busy") => Ok(Claimed::Busy),
            None => Ok(Claimed::Ended),
            Some(_) => Err(self.nonsense()),
        }
    }

    /// Whether a broker has ended it, or is about to.
    pub(super) async fn mark(&self, id: Ulid) -> Result<Option<EndMark>, StoreUnavailable> {
        self.marks().find(id).await
    }

    /// It has not ended yet. `others`: whether somebody else shall try.
    pub(super) async fn pause(&self, id: Ulid, others: bool) -> Result<(), StoreUnavailable> {
        let call = self.call().keys(self.names(id)).argument(if others { "1" } else { "0" });
        self.word(scripts::PAUSE, call).await.map(drop)
    }

    /// How many credentials are on it.
    pub(super) fn listed(&self) -> u64 {
        self.listed.load(Ordering::Relaxed)
    }

    /// This broker lives, or does so no more.
    pub(super) async fn live(&self, lives: bool) -> Result<(), StoreUnavailable> {
        let call = self.call().argument(if lives { "1" } else { "0" });
        let Value::Int(listed @ 0..) = self.run(scripts::LIVE, call).await? else {
            return Err(self.nonsense());
        };
        self.listed.store(listed.unsigned_abs(), Ordering::Relaxed);
        Ok(())
    }

    fn names(&self, minted_by: Ulid) -> Vec<String> {
        self.shared.names(entry::KIND, &[&minted_by.to_bytes()])
    }

    fn marks(&self) -> EndedMarks {
        EndedMarks::new(&self.shared)
    }

    /// By the broker's clock, in milliseconds.
    fn now(&self) -> i64 {
        self.shared.clock().now().as_millisecond()
    }

    /// The entries of an answer that open.
    fn entries(&self, answer: &Value) -> Result<Vec<Found>, StoreUnavailable> {
        let found = answers::found(answer).ok_or_else(|| self.nonsense())?;
        Ok(found.into_iter().filter_map(|found| self.open(found)).collect())
    }

    fn open(&self, found: answers::SealedFound) -> Option<Found> {
        let answers::SealedFound { name, body, holders, is_of, ending } = found;
        let text = self.shared.unseal_listed(Use::Outstanding, (entry::KIND, &name), &body)?;
        let entry = self.entry(&name, &text)?;
        Some(Found { entry, holders, is_of, ending })
    }

    fn unseal(&self, name: &str, body: &[u8]) -> Option<SharedEntry> {
        let text = self.shared.unseal(Use::Outstanding, (entry::KIND, name), body)?;
        self.entry(name, &text)
    }

    /// The entry with this name.
    fn entry(&self, name: &str, text: &[u8]) -> Option<SharedEntry> {
        let entry = SharedEntry::parse(text)?;
        self.names(entry.grant.id).iter().any(|known| known == name).then_some(entry)
    }
}
