//! Why a token is rejected.

use super::bounds::{
    LONGEST_KEY_ID, LONGEST_SUBJECT, LONGEST_TOKEN, LONGEST_TOKEN_ID, MOST_AUDIENCES,
};
use super::json::InvalidJson;

/// The rule that a token breaks. No reason contains anything from the token: what it had instead is
/// in [`super::Rejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    #[error("the token is empty or longer than {LONGEST_TOKEN} bytes")]
    Size,
    #[error("the token is not three base64url parts joined by `.`")]
    Shape,
    #[error("the header cannot be read: {0}")]
    Header(InvalidJson),
    #[error(
        "the header has `{0}`; a token that supplies its own key, or changes how it is read, is \
         never accepted"
    )]
    ForbiddenHeader(&'static str),
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
    #[error("`aud` is not the `audience` of this deployment, nor a list of texts that contains it")]
    Audience,
    #[error("`aud` lists more than {MOST_AUDIENCES} audiences")]
    TooManyAudiences,
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
    #[error("`sub` is not printable text of 1 to {LONGEST_SUBJECT} bytes")]
    Subject,
    #[error(
        "`replay = \"single_use\"` needs a `jti`, and it is missing or not printable text of 1 to \
         {LONGEST_TOKEN_ID} bytes"
    )]
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
            Self::Header(_) | Self::ForbiddenHeader(_) | Self::Type | Self::KeyId => Stage::Header,
            Self::Payload(_) => Stage::Payload,
            Self::Issuer | Self::UnknownIssuer => Stage::Issuer,
            Self::MissingKeyId
            | Self::Algorithm
            | Self::Audience
            | Self::TooManyAudiences
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
