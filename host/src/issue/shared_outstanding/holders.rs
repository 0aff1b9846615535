//! Who holds a credential, on whichever broker it was answered with it.

use redis::Value;
use ulid::Ulid;

use super::{Call, SharedEntry, SharedOutstanding, scripts};
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

impl SharedOutstanding {
    /// The request is about to be answered with this credential.
    pub(in crate::issue) async fn hold(
        &self,
        minted_by: Ulid,
        (request, owner): (Ulid, &SubjectDigest),
    ) -> Result<HoldAnswer, StoreUnavailable> {
        let (field, value) = self.holder(request, owner);
        let pointer = self.pointers(request).into_iter().next();
        let call = self.call().keys(self.marks().names(minted_by)).keys(self.names(minted_by));
        let call = call.keys(pointer.filter(|_| request != minted_by));
        self.held(call.argument(field).argument(value)).await
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
        let mut call = self.call().keys(self.names(minted_by));
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
        let call = self.call().keys(self.names(minted_by)).keys(self.pointers(request));
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
            self.unseal(name, body).ok_or_else(|| self.nonsense())
        };
        match &**word {
            b"unknown" => Ok(SharedReturn::Unknown),
            b"another" => Ok(SharedReturn::Another),
            b"ended" => Ok(SharedReturn::Ended),
            b"session" => Ok(SharedReturn::Unsupported(found()?)),
            b"shared" => Ok(SharedReturn::Shared(found()?)),
            b"last" => Ok(SharedReturn::Last(found()?)),
            _ => Err(self.nonsense()),
        }
    }

    /// Field and value of a holder, under the first key.
    pub(super) fn holder(&self, request: Ulid, owner: &SubjectDigest) -> (String, String) {
        let field = self.fields(request).into_iter().next();
        let value = self.owners(owner).into_iter().next();
        (field.unwrap_or_default(), value.unwrap_or_default())
    }

    fn fields(&self, request: Ulid) -> Vec<String> {
        self.shared.digests("holder", &[&request.to_bytes()])
    }

    pub(super) fn owners(&self, owner: &SubjectDigest) -> Vec<String> {
        self.shared.digests("owner", &[owner.as_bytes()])
    }

    /// The names under which a request leads to a credential of another one.
    pub(super) fn pointers(&self, request: Ulid) -> Vec<String> {
        self.shared.names("held", &[&request.to_bytes()])
    }
}
