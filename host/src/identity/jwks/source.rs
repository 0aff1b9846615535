//! The port [`KeySource`], from which a key set is fetched, and why a fetch fails.

use std::error::Error;

use async_trait::async_trait;

use super::{InvalidKeySet, KeySet, LARGEST_SET};
use crate::identity::json::InvalidJson;

#[async_trait]
pub(crate) trait KeySource: Send + Sync {
    async fn fetch(&self) -> Result<KeySet, FetchError>;
}

/// Why a fetch failed, for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer: {}", causes(.0))]
    Request(#[source] reqwest::Error),
    #[error("`bearer_file` cannot be used: {0}")]
    Bearer(String),
    #[error("no answer within the deadline")]
    Deadline,
    #[error("status {0}, expected 200 (redirects are not followed)")]
    Status(u16),
    #[error("the answer is larger than {LARGEST_SET} bytes")]
    TooLarge,
    #[error("the discovery document cannot be read: {0}")]
    Document(#[source] InvalidJson),
    #[error(
        "the discovery document belongs to another issuer: its `issuer` must equal the configured \
         one, to the byte"
    )]
    OtherIssuer,
    #[error(
        "the discovery document's `jwks_uri` is missing, or neither on the issuer's host nor on \
         one of `jwks_hosts`"
    )]
    ForeignKeys,
    #[error("the key set cannot be used: {0}")]
    Keys(#[from] InvalidKeySet),
}

/// An error with all its causes: the text of reqwest itself ends at "error sending request".
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
