//! The end of credentials, as the broker answers about it.

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::Broker;
use crate::deadline::Deadline;
use crate::patience::Setback;
use crate::token::Token;

/// The most credentials of an answer that are accepted.
const LISTED: usize = 1_000;

/// What became of a credential that was given back.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct EndedCredential {
    /// The request that got it.
    pub(crate) credential: String,
    pub(crate) state: CredentialState,
    /// As the broker wrote it.
    pub(crate) expires_at: Option<String>,
    pub(crate) request_id: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CredentialState {
    Ended,
    /// The registry has not confirmed it yet.
    Ending,
    /// Others have it.
    Shared,
}

/// What an operator selects. Each member that is given selects.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct RevocationRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registry: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<&'a str>,
    /// Older brokers do not know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gone: bool,
    pub(crate) dry_run: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Revocations {
    pub(crate) matched: u64,
    /// Perhaps only the first ones.
    pub(crate) credentials: Vec<ListedCredential>,
    pub(crate) unsupported: Vec<Unsupported>,
    pub(crate) dry_run: bool,
    pub(crate) request_id: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ListedCredential {
    pub(crate) minted_by: String,
    pub(crate) registry: String,
    pub(crate) project: String,
    pub(crate) actions: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) sub: String,
    pub(crate) holders: u64,
    pub(crate) expires_at: String,
    pub(crate) ending: bool,
}

/// Credentials of one registry that nobody can end.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Unsupported {
    pub(crate) registry: String,
    pub(crate) credentials: u64,
    /// `None`: one of them does not expire.
    pub(crate) until: Option<String>,
}

impl Broker {
    /// `id` consists of letters and digits.
    pub(crate) fn end_credential(
        &self,
        token: &Token,
        id: &str,
        deadline: Deadline,
    ) -> Result<EndedCredential, Setback> {
        let path = format!("/api/v1/registry/credentials/{id}");
        let reply = self.ask(token, Method::DELETE, &path, None, deadline)?;
        serde_json::from_slice(&reply.body).map_err(|error| self.nonsense(&error).into())
    }

    pub(crate) fn end_credentials(
        &self,
        token: &Token,
        request: &RevocationRequest<'_>,
        deadline: Deadline,
    ) -> Result<Revocations, Setback> {
        let body = serde_json::to_string(request).unwrap_or_default();
        let path = "/api/v1/registry/revocations";
        let reply = self.ask(token, Method::POST, path, Some(body), deadline)?;
        let answer: Revocations =
            serde_json::from_slice(&reply.body).map_err(|error| self.nonsense(&error))?;
        if answer.credentials.len() > LISTED || answer.unsupported.len() > LISTED {
            return Err(self.nonsense(&"too many credentials").into());
        }
        Ok(answer)
    }
}
