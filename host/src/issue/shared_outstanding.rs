//! The list of what is out, which several brokers share so that each of them can end it.
//!
//! Each broker's own list is what it has to end; this one is a copy that the brokers keep for each
//! other (`together` says when). The store learns when a credential ends and how many hold it: its
//! content is sealed, and names are digests.
//!
//! **Invariant:** one broker at a time ends a credential: the one in `by`, for as long as it shows
//! a sign of life.
//! **Invariant:** a caller gives back what it got, and nothing else: a field of a holder is made of
//! its request and its subject, with a key that the store does not have.

mod answers;
mod entry;
mod holders;
mod scripts;
mod untold;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use redis::Value;
use ulid::Ulid;

use super::ended::EndedMarks;
use crate::domain::{RevocationCause, SubjectDigest};
use crate::shared::{Script, Shared, StoreUnavailable, Use};
pub(super) use answers::{Claimed, Compared, Due, Found};
pub(super) use entry::SharedEntry;
pub(super) use holders::{HoldAnswer, SharedReturn};
use untold::Untold;

/// For each broker. Its own list has as many.
const MOST: u64 = 50_000;
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
    most: String,
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

/// The keys and arguments of a script.
struct Call {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    fn argument(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_vec());
        self
    }

    fn number(self, number: i64) -> Self {
        self.argument(number.to_string())
    }

    fn keys(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.keys.extend(names);
        self
    }
}

impl SharedOutstanding {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            index: shared.common_name("outstanding"),
            me: shared.common_name(&format!("broker:{}", Ulid::generate())),
            listed: AtomicU64::new(0),
            untold: Untold::default(),
            most: (MOST * u64::from(shared.replicas)).to_string(),
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
        let mut call = self
            .call()
            .keys(self.marks().names(id))
            .keys(names)
            .argument(body)
            .number(entry.ends.as_millisecond())
            .number(stays)
            .argument(&self.most)
            .argument(word)
            .argument(match unknown {
                UnknownHolders::No => "",
                UnknownHolders::Yes => "yes",
                UnknownHolders::IfForgotten => "if-forgotten",
            });
        for (request, owner) in holders {
            let (field, value) = self.holder(*request, owner);
            let pointer = self.pointers(*request).into_iter().next();
            call = call.argument(field).argument(value);
            call = call.keys(pointer.filter(|_| *request != id));
        }
        match &*self.word(scripts::LIST, call).await? {
            b"listed" => Ok(Listing::Listed),
            b"full" => Ok(Listing::Full),
            b"ended" => Ok(Listing::Ended),
            _ => Err(self.nonsense()),
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
        let compared: Option<Vec<_>> = words.iter().map(answers::compared).collect();
        compared.filter(|all| all.len() == own.len()).ok_or_else(|| self.nonsense())
    }

    /// The credential that this request was answered with. `owner`: see [`Found::is_of`].
    pub(super) async fn find(
        &self,
        request: Ulid,
        owner: Option<SubjectDigest>,
    ) -> Result<Option<Found>, StoreUnavailable> {
        let mut call = self.call().keys(self.names(request)).keys(self.pointers(request));
        for value in owner.iter().flat_map(|owner| self.owners(owner)) {
            call = call.argument(value);
        }
        let found = self.entries(&self.run(scripts::FIND, call).await?)?;
        Ok(found.into_iter().next())
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

    /// What is due and what nobody who lives ends, when `over` entries were passed over.
    pub(super) async fn due(&self, over: usize) -> Result<Due, StoreUnavailable> {
        let call = self.call().number(self.now()).argument(over.to_string());
        let call = call.argument(AT_ONCE.to_string());
        let Value::Array(parts) = self.run(scripts::DUE, call).await? else {
            return Err(self.nonsense());
        };
        let [Value::Int(stay), Value::Int(looked_at), entries] = parts.as_slice() else {
            return Err(self.nonsense());
        };
        let number = |value: i64| usize::try_from(value).map_err(|_| self.nonsense());
        let is_last = number(*looked_at)? < AT_ONCE;
        Ok(Due { entries: self.entries(entries)?, over: over + number(*stay)?, is_last })
    }

    /// From now on this broker ends these, if nobody else does or if `by_force`. Returns for each
    /// whether it does.
    pub(super) async fn take(
        &self,
        ids: &[Ulid],
        by_force: bool,
    ) -> Result<Vec<bool>, StoreUnavailable> {
        let mut taken = vec![false; ids.len()];
        for index in 0..self.names(Ulid::nil()).len() {
            // Each of them under the same key.
            let names = ids.iter().filter_map(|id| self.names(*id).into_iter().nth(index));
            let call = self.call().keys(names).argument(if by_force { "1" } else { "0" });
            let Value::Array(answers) = self.run(scripts::TAKE, call).await? else {
                return Err(self.nonsense());
            };
            if answers.len() != ids.len() {
                return Err(self.nonsense());
            }
            for (taken, answer) in taken.iter_mut().zip(answers) {
                *taken |= answer == Value::Int(1);
            }
        }
        Ok(taken)
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
        let call = self.call().keys(marks.names(id)).keys(self.names(id));
        let call = call.argument(cause.as_str()).number(self.now());
        let call = call.number(tries).number(marks.stays(ends));
        match &*self.word(scripts::CLAIM, call).await? {
            b"ours" => Ok(Claimed::Ours),
            b"theirs" => Ok(Claimed::Theirs),
            b"busy" => Ok(Claimed::Busy),
            b"ended" => Ok(Claimed::Ended),
            _ => Err(self.nonsense()),
        }
    }

    /// Whether a broker has ended it, or is about to.
    pub(super) async fn has_ended(&self, id: Ulid) -> Result<bool, StoreUnavailable> {
        self.marks().has(id).await
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

    fn call(&self) -> Call {
        let names = self.names(Ulid::nil()).len();
        let keys = vec![self.index.clone(), self.me.clone()];
        Call { keys, arguments: vec![names.to_string().into_bytes()] }
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

    async fn run(&self, text: &'static str, call: Call) -> Result<Value, StoreUnavailable> {
        let arguments: Vec<&[u8]> = call.arguments.iter().map(Vec::as_slice).collect();
        let script = Script { text, keys: &call.keys, arguments: &arguments };
        self.shared.run(Use::Outstanding, script).await
    }

    async fn word(&self, text: &'static str, call: Call) -> Result<Vec<u8>, StoreUnavailable> {
        let Value::BulkString(word) = self.run(text, call).await? else {
            return Err(self.nonsense());
        };
        Ok(word)
    }

    /// The entries of an answer that open.
    fn entries(&self, answer: &Value) -> Result<Vec<Found>, StoreUnavailable> {
        let found = answers::found(answer).ok_or_else(|| self.nonsense())?;
        Ok(found.into_iter().filter_map(|found| self.open(found)).collect())
    }

    fn open(&self, found: answers::SealedFound) -> Option<Found> {
        let answers::SealedFound { name, body, holders, is_of, ending } = found;
        let entry = self.unseal(&name, &body)?;
        Some(Found { entry, holders, is_of, ending })
    }

    fn unseal(&self, name: &str, body: &[u8]) -> Option<SharedEntry> {
        let text = self.shared.unseal(Use::Outstanding, (entry::KIND, name), body)?;
        let entry = SharedEntry::parse(&text)?;
        self.names(entry.grant.id).iter().any(|known| known == name).then_some(entry)
    }

    fn nonsense(&self) -> StoreUnavailable {
        self.shared.nonsense(Use::Outstanding)
    }
}
