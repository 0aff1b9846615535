//! Who holds a credential, on whichever broker it was answered with it.

use jiff::Timestamp;
use redis::Value;
use ulid::Ulid;

use super::{Call, EndMark, Pointer, SharedEntry, SharedOutstanding, answers, scripts};
use crate::domain::{RevocationCause, SubjectDigest};
use crate::shared::StoreUnavailable;

/// Whether somebody may have a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::issue) enum HoldAnswer {
    Held,
    /// It ends or has ended.
    Ending,
    /// It is not on the list.
    Missing,
}

/// What follows when a caller gives back what it got by a request.
pub(in crate::issue) enum SharedReturn {
    /// No credential of the list was an answer to this request.
    Unknown,
    /// One was, to somebody else.
    Another,
    Ended,
    /// Only an operator ends it.
    Unsupported(SharedEntry),
    /// Others have it.
    Shared(SharedEntry),
    /// Nobody else has it.
    Last(SharedEntry),
}

/// A holder as the store has it, under the first key.
pub(super) struct Holder {
    pub(super) field: String,
    pub(super) value: String,
    /// The name of the pointer from its request. `None`: the credential was minted for it.
    pub(super) pointer: Option<String>,
    /// What the pointer has, or nothing.
    pub(super) to: Vec<u8>,
}

impl SharedOutstanding {
    /// The request is about to be answered with this credential, which ends then.
    pub(in crate::issue) async fn hold(
        &self,
        (minted_by, ends): (Ulid, Timestamp),
        (request, owner): (Ulid, &SubjectDigest),
    ) -> Result<HoldAnswer, StoreUnavailable> {
        let marks = self.marks();
        let Holder { field, value, pointer, to } = self.holder(minted_by, request, owner);
        let call = self.call().keys(marks.names(minted_by)).keys(self.names(minted_by));
        let call = call.keys(pointer).argument(field).argument(value);
        self.held(call.argument(to).number(marks.stays(ends))).await
    }

    /// Whether somebody could have this credential.
    pub(in crate::issue) async fn could_hold(
        &self,
        minted_by: Ulid,
    ) -> Result<HoldAnswer, StoreUnavailable> {
        let call = self.call().keys(self.marks().names(minted_by)).keys(self.names(minted_by));
        self.held(call).await
    }

    async fn held(&self, call: Call) -> Result<HoldAnswer, StoreUnavailable> {
        match &*self.word(scripts::HOLD, call).await? {
            b"held" => Ok(HoldAnswer::Held),
            b"ending" => Ok(HoldAnswer::Ending),
            b"missing" => Ok(HoldAnswer::Missing),
            _ => Err(self.nonsense()),
        }
    }

    /// It was not answered with it after all.
    pub(in crate::issue) async fn release(
        &self,
        minted_by: Ulid,
        request: Ulid,
    ) -> Result<(), StoreUnavailable> {
        let mut call = self.call().keys(self.names(minted_by)).keys(self.pointers(request));
        for field in self.fields(request) {
            call = call.argument(field);
        }
        self.word(scripts::RELEASE, call).await.map(drop)
    }

    /// The subject of `owner` gives back what it got by this request. `minted_by`: the credential
    /// of that, if this broker knows. `others`: whether this broker knows of others who have it.
    pub(in crate::issue) async fn give_back(
        &self,
        (request, minted_by): (Ulid, Ulid),
        owner: &SubjectDigest,
        others: bool,
    ) -> Result<SharedReturn, StoreUnavailable> {
        let returned = self.give_back_of((request, minted_by), owner, others).await?;
        if request != minted_by || !matches!(returned, SharedReturn::Unknown) {
            return Ok(returned);
        }
        match self.pointer(request).await? {
            Some(to) if to.owner == *owner => {
                self.give_back_of((request, to.minted_by), owner, others).await
            }
            Some(_) => Ok(SharedReturn::Another),
            None => Ok(SharedReturn::Unknown),
        }
    }

    /// The same for a credential that is known.
    async fn give_back_of(
        &self,
        (request, minted_by): (Ulid, Ulid),
        owner: &SubjectDigest,
        others: bool,
    ) -> Result<SharedReturn, StoreUnavailable> {
        let call = self.call().keys(self.marks().names(minted_by)).keys(self.names(minted_by));
        let call = call.keys(self.pointers(request));
        let call = call.argument(RevocationCause::Returned.as_str()).number(self.now());
        let mut call = call.argument(if others { "1" } else { "0" });
        for (field, value) in self.fields(request).into_iter().zip(self.owners(owner)) {
            call = call.argument(field).argument(value);
        }
        let Value::Array(parts) = self.run(scripts::GIVE_BACK, call).await? else {
            return Err(self.nonsense());
        };
        let Some(Value::BulkString(word)) = parts.first() else { return Err(self.nonsense()) };
        let found = || {
            let [_, Value::BulkString(name), Value::BulkString(body)] = parts.as_slice() else {
                return Err(self.nonsense());
            };
            let name = std::str::from_utf8(name).map_err(|_| self.nonsense())?;
            let entry = self.unseal(name, body).filter(|SharedEntry { grant, .. }| {
                // Whoever asked for the mint is in the entry, and nobody else holds it by that.
                grant.id == minted_by && (request != minted_by || grant.owner == *owner)
            });
            entry.ok_or_else(|| self.nonsense())
        };
        match &**word {
            b"unknown" => Ok(SharedReturn::Unknown),
            b"another" => Ok(SharedReturn::Another),
            b"gone" => self.gone(minted_by, &parts),
            b"session" => Ok(SharedReturn::Unsupported(found()?)),
            b"shared" => Ok(SharedReturn::Shared(found()?)),
            b"last" => Ok(SharedReturn::Last(found()?)),
            _ => Err(self.nonsense()),
        }
    }

    /// It is not on the list any more: it has ended, or the store has forgotten it.
    fn gone(&self, minted_by: Ulid, answer: &[Value]) -> Result<SharedReturn, StoreUnavailable> {
        let [_, Value::BulkString(word)] = answer else { return Err(self.nonsense()) };
        let mark = answers::marks(word).and_then(|marks| self.marks().read(minted_by, marks));
        let has_ended = mark == Some(EndMark::Ended);
        Ok(if has_ended { SharedReturn::Ended } else { SharedReturn::Unknown })
    }

    pub(super) fn holder(&self, minted_by: Ulid, request: Ulid, owner: &SubjectDigest) -> Holder {
        let field = self.fields(request).into_iter().next().unwrap_or_default();
        let value = self.owners(owner).into_iter().next().unwrap_or_default();
        let to = (request != minted_by).then_some(Pointer { minted_by, owner: *owner });
        let (pointer, to) = to.and_then(|to| self.sealed_pointer(request, &to)).unzip();
        Holder { field, value, pointer, to: to.unwrap_or_default() }
    }

    fn fields(&self, request: Ulid) -> Vec<String> {
        self.shared.digests("holder", &[&request.to_bytes()])
    }

    pub(super) fn owners(&self, owner: &SubjectDigest) -> Vec<String> {
        self.shared.digests("owner", &[owner.as_bytes()])
    }
}
