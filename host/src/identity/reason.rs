//! Why a token is rejected.

use super::bounds::{LONGEST_KEY_ID, LONGEST_TOKEN};
use super::json::InvalidJson;

/// For the operator. No reason contains anything from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    #[error("the token is empty or longer than {LONGEST_TOKEN} bytes")]
    Size,
    #[error("the token is not three base64url parts joined by `.`")]
    Shape,
    #[error("the header cannot be read: {0}")]
    Header(InvalidJson),
    #[error("the header has one of `jwk jku x5u x5c crit b64 enc zip cty`, which are not allowed")]
    ForbiddenHeader,
    #[error("`typ` is not one of the issuer's `token_types`")]
    Type,
    #[error("`kid` is not text of 1 to {LONGEST_KEY_ID} printable characters")]
    KeyId,
    #[error("the header has no `kid`")]
    MissingKeyId,
    #[error("the payload cannot be read: {0}")]
    Payload(InvalidJson),
    #[error("`iss` is missing or not text")]
    Issuer,
    #[error("`iss` is not one of the configured issuers")]
    UnknownIssuer,
    #[error("`alg` is not one of the issuer's `algorithms`")]
    Algorithm,
    #[error(
        "`aud` is not this deployment's `audience`, nor a list of 1 to 8 texts that contains it"
    )]
    Audience,
    #[error("`exp` or `iat` is missing, or `exp`, `iat` or `nbf` is not a whole number of seconds")]
    Times,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token was issued in the future")]
    IssuedInFuture,
    #[error("the token's lifetime exceeds the issuer's `max_lifetime`, or is not positive")]
    Lifetime,
    #[error("the token was issued longer ago than the issuer's `max_age`")]
    Age,
    #[error("the issuer has no key with this `kid`")]
    UnknownKey,
    #[error("the token has no `kid`, and the issuer has more than one key")]
    UnnamedKey,
    #[error("`alg` does not fit the key that `kid` names")]
    KeyMismatch,
    #[error("the signature is wrong")]
    Signature,
    #[error("`sub` is not text of 1 to 255 printable characters")]
    Subject,
    #[error("`jti` is missing or not text of 1 to 128 printable characters")]
    TokenId,
    #[error("one of the issuer's `required_claims` is missing")]
    RequiredClaim,
}

/// How far a token could be read, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Form,
    Header,
    Payload,
    Issuer,
    /// Everything could be read.
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
