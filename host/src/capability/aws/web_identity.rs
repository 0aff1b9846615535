//! The identity of a broker without AWS keys: a token that it signs for each mint, by which STS
//! knows it (`AssumeRoleWithWebIdentity`).
//!
//! The role, its session policy, name and duration are those of `AssumeRole`. STS takes tags and
//! the source identity from the token, so that they are claims here.
//!
//! **Invariant:** the token goes to STS only. A provider has no handle on it, and does not know of
//! it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use ulid::Ulid;

use super::AssumeRole;
use crate::domain::Secret;
use crate::keys::SigningError;
use crate::signing::{IdentityClaims, Signing};

/// The audience that IAM's documentation gives to OIDC providers.
pub(crate) const USUAL_AUDIENCE: &str = "sts.amazonaws.com";
const TAGS: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";

/// What signs the tokens of one registry, and for whom.
#[derive(Clone)]
pub struct WebIdentity {
    pub audience: String,
    pub signing: Arc<Signing>,
}

/// A token for one call of STS.
pub(crate) struct Proof {
    pub(crate) token: Arc<Secret>,
    /// Its `sub`.
    pub(crate) subject: String,
}

impl WebIdentity {
    /// Signs the token for `request`, which is for what `stated` says.
    pub(crate) fn prove(
        &self,
        stated: IdentityClaims<'_>,
        request: &AssumeRole,
        id: Ulid,
        now: Timestamp,
    ) -> Result<Proof, SigningError> {
        let claims = (self.audience.as_str(), claims(request));
        let signed = self.signing.cloud_token(stated, claims, id, now)?;
        Ok(Proof { token: Arc::new(signed.token), subject: stated.subject() })
    }
}

/// The claims that STS reads in place of parameters.
fn claims(request: &AssumeRole) -> Value {
    let mut claims = Map::new();
    if !request.tags.is_empty() {
        let tags = request.tags.iter().map(|(key, value)| (key.clone(), json!([value])));
        claims.insert(TAGS.to_owned(), json!({ "principal_tags": tags.collect::<Map<_, _>>() }));
    }
    if let Some(identity) = &request.source_identity {
        claims.insert(SOURCE_IDENTITY.to_owned(), identity.as_str().into());
    }
    Value::Object(claims)
}
