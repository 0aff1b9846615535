//! What leads from a request to the credential of another one that it was answered with.
//!
//! **Invariant:** a pointer is sealed under the name of its request: a store that moves one, or
//! makes one up, leads nowhere. It does not outlive its credential for long.

use redis::Value;
use ulid::Ulid;
use zeroize::Zeroizing;

use super::{SharedOutstanding, scripts};
use crate::domain::SubjectDigest;
use crate::shared::{StoreUnavailable, Use};

/// What names and seals of pointers are made with.
const KIND: &str = "held";
/// Of the id of a credential, in bytes.
const ID: usize = 16;

/// Where a request leads to.
pub(super) struct Pointer {
    pub(super) minted_by: Ulid,
    /// The subject of the request.
    pub(super) owner: SubjectDigest,
}

impl Pointer {
    fn text(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.minted_by.to_bytes()[..], self.owner.as_bytes()].concat())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (id, owner) = text.split_first_chunk::<ID>()?;
        let owner = owner.try_into().ok()?;
        let minted_by = Ulid::from_bytes(*id);
        Some(Self { minted_by, owner: SubjectDigest::from_bytes(owner) })
    }
}

impl SharedOutstanding {
    /// The name of the pointer to write, and what it has.
    pub(super) fn sealed_pointer(
        &self,
        request: Ulid,
        pointer: &Pointer,
    ) -> Option<(String, Vec<u8>)> {
        let name = self.pointers(request).into_iter().next()?;
        let value = self.shared.seal(KIND, &name, pointer.text())?;
        Some((name, value))
    }

    /// Where this request leads to, if it was answered with the credential of another one.
    pub(super) async fn pointer(&self, request: Ulid) -> Result<Option<Pointer>, StoreUnavailable> {
        let names = self.pointers(request);
        let call = self.call().keys(names.clone());
        let Value::Array(parts) = self.run(scripts::POINTER, call).await? else {
            return Err(self.nonsense());
        };
        let (at, value) = match parts.as_slice() {
            [] => return Ok(None),
            [Value::Int(at), Value::BulkString(value)] => (*at, value),
            _ => return Err(self.nonsense()),
        };
        let name = usize::try_from(at).ok().and_then(|at| names.get(at));
        let name = name.ok_or_else(|| self.nonsense())?;
        let text = self.shared.unseal(Use::Outstanding, (KIND, name), value);
        Ok(text.and_then(|text| Pointer::parse(&text)))
    }

    /// The names under which a request leads to a credential of another one.
    pub(super) fn pointers(&self, request: Ulid) -> Vec<String> {
        self.shared.names(KIND, &[&request.to_bytes()])
    }
}
