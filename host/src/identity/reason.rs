//! Why a token is refused.

use super::bounds::{LONGEST_KEY_ID, LONGEST_TOKEN};
use super::json::InvalidJson;

/// For the operator. Holds nothing from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    #[error("it is empty or longer than {LONGEST_TOKEN} bytes")]
    Size,
    #[error("it is not three base64url parts joined by `.`")]
    Shape,
    #[error("its header cannot be read: {0}")]
    Header(InvalidJson),
    #[error("its header has one of `jwk jku x5u x5c crit b64 enc zip cty`")]
    ForbiddenHeader,
    #[error("its header's `typ` is none of the issuer's `token_types`")]
    Type,
    #[error("its header's `kid` is not text of 1 to {LONGEST_KEY_ID} printable characters")]
    KeyId,
    #[error("its header has no `kid`")]
    MissingKeyId,
    #[error("its payload cannot be read: {0}")]
    Payload(InvalidJson),
    #[error("its `iss` is missing or not text")]
    Issuer,
    #[error("its `iss` is none of the configured issuers")]
    UnknownIssuer,
    #[error("its `alg` is none of the issuer's `algorithms`")]
    Algorithm,
    #[error(
        "its `aud` is not text or a list of 1 to 8 texts with this deployment's `audience` among them"
    )]
    Audience,
    #[error("its `exp`, `iat` or `nbf` is missing or not a whole number of seconds")]
    Times,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it was issued in the future")]
    IssuedInFuture,
    #[error("it is valid for longer than the issuer's `max_lifetime`, or for no time at all")]
    Lifetime,
    #[error("it was issued longer ago than the issuer's `max_age`")]
    Age,
    #[error("the issuer has no key of its `kid`")]
    UnknownKey,
    #[error("it has no `kid`, and the issuer has more than one key")]
    UnnamedKey,
    #[error("its `alg` does not go with the key that its `kid` names")]
    KeyMismatch,
    #[error("its signature is wrong")]
    Signature,
    #[error("its `sub` is not text of 1 to 255 printable characters")]
    Subject,
    #[error("its `jti` is missing or not text of 1 to 128 printable characters")]
    TokenId,
    #[error("it lacks one of the issuer's `required_claims`")]
    RequiredClaim,
}

/// What has to be read before there is anything to check, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Form,
    Header,
    Payload,
    Issuer,
    /// All of that held.
    Checks,
}

impl Reason {
    pub(super) fn stage(self) -> Stage {
        match self {
            Self::Size | Self::Shape => Stage::Form,
            Self::Header(_) | Self::ForbiddenHeader | Self::Type | Self::KeyId => Stage::Header,
            Self::Payload(_) => Stage::Payload,
            Self::Issuer | Self::UnknownIssuer => Stage::Issuer,
            Self::MissingKeyId
            | Self::Algorithm
            | Self::Audience
            | Self::Times
            | Self::Expired
            | Self::NotYetValid
            | Self::IssuedInFuture
            | Self::Lifetime
            | Self::Age
            | Self::UnknownKey
            | Self::UnnamedKey
            | Self::KeyMismatch
            | Self::Signature
            | Self::Subject
            | Self::TokenId
            | Self::RequiredClaim => Stage::Checks,
        }
    }
}
