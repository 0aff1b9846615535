//! The port [`KeySource`], from which a key set is fetched, and why a fetch fails.

use std::error::Error;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio::task::JoinError;

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
    #[error("the proxy {proxy} gives no connection to {url}: {}", causes(.source))]
    Proxy { proxy: String, url: String, source: reqwest::Error },
    #[error(transparent)]
    Bearer(#[from] UnusableBearer),
    #[error("a bug in the broker: {0}")]
    Host(#[source] JoinError),
    #[error("no answer within the deadline")]
    Deadline,
    #[error("{url} answers {status}, expected 200 (redirects are not followed){remedy}")]
    Status { url: String, status: u16, remedy: &'static str },
    #[error("the answer of {0} is larger than {LARGEST_SET} bytes")]
    TooLarge(String),
    #[error(
        "{url} answers with something other than a discovery document: {source}; correct `issuer` \
         or `discovery_url`; if they are right, a login page or a proxy answers in the issuer's \
         place"
    )]
    Document { url: String, source: InvalidJson },
    #[error(
        "the discovery document belongs to another issuer: its `issuer` is {found}, and the \
         configured one is {expected}; both must be equal to the byte, so set `issuer` to what \
         tokens have as `iss`"
    )]
    OtherIssuer { expected: String, found: String },
    #[error(
        "the `jwks_uri` of the discovery document is {0}, which is neither on the host of the \
         document nor on one of `jwks_hosts`; if you trust that host with the issuer's keys, add \
         its `host:port` to `jwks_hosts`"
    )]
    ForeignKeys(String),
    #[error(
        "the `jwks_uri` of the discovery document is at a private address ({0}); set `internal = \
         true` if that is intended"
    )]
    PrivateKeys(String),
    #[error("the key set cannot be used: {0}")]
    Keys(#[from] InvalidKeySet),
}

/// Why there is no token to send to an issuer.
#[derive(Debug, thiserror::Error)]
#[error(
    "`bearer_file` {} cannot be used: {problem}; name a file with one token that the broker's user \
     can read",
    path.display()
)]
pub(crate) struct UnusableBearer {
    pub(super) path: PathBuf,
    pub(super) problem: String,
}

impl FetchError {
    /// Whether the issuer answered, so that the network is not to blame.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::Request(_) | Self::Deadline | Self::Proxy { .. } => false,
            Self::Bearer(_)
            | Self::Host(_)
            | Self::Status { .. }
            | Self::TooLarge(_)
            | Self::Document { .. }
            | Self::OtherIssuer { .. }
            | Self::ForeignKeys(_)
            | Self::PrivateKeys(_)
            | Self::Keys(_) => true,
        }
    }
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
