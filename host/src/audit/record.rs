//! The fields of a record. To add one: a field here, and a line in `docs/audit.md`.
//!
//! **Invariant:** [`Record`] is a closed set of bounded fields: no header, body or upstream text
//! can slip into it, and secrets are in it only as fingerprints ([`super::keys`]).

use std::fmt::Display;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::domain::{EndedBy, EnforcedBy, Location, Rights, Scope};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    ServiceStart,
    ServiceStop,
    /// Tokens that were missing or wrong, counted.
    AuthenticationDenied,
    Denied,
    /// Granted; something outside may be called from here on.
    Intent,
    /// On its way to the caller.
    Completed,
    /// Minted for a request that was not answered with it: a renewal, or the caller had gone.
    Minted,
    /// A registry token on its way to the caller.
    Token,
    Failed,
    /// A change of a repository, before it is sent.
    RepositoryIntent,
    RepositoryChanged,
    /// It failed, or nobody knows whether it worked.
    RepositoryFailed,
    /// A caller gave back what it got. Others may still have it.
    RevokeReturned,
    /// An operator ends credentials. Each of them has records of its own.
    RevokeRequested,
    /// A credential is to end, before the provider is called.
    RevokeIntent,
    RevokeCompleted,
    /// The credential may still work; the broker tries again.
    RevokeFailed,
    /// An operator reads the log over HTTP.
    AuditRead,
    /// Minted, and not handed out, because its record was not durable in time.
    Aborted,
    Checkpoint,
    /// A torn last line was cut off at start.
    Recovered,
    /// The operator started with `--accept-broken-chain`; a new chain begins here.
    BrokenAccepted,
    /// A segment failed and was given up; everything after `resumes` is void.
    Poisoned,
    /// The segment in `resumes` was removed or moved away while it was written.
    Displaced,
}

impl Event {
    pub const ALL: [Self; 24] = [
        Self::ServiceStart,
        Self::ServiceStop,
        Self::AuthenticationDenied,
        Self::Denied,
        Self::Intent,
        Self::Completed,
        Self::Minted,
        Self::Token,
        Self::Failed,
        Self::RepositoryIntent,
        Self::RepositoryChanged,
        Self::RepositoryFailed,
        Self::RevokeReturned,
        Self::RevokeRequested,
        Self::RevokeIntent,
        Self::RevokeCompleted,
        Self::RevokeFailed,
        Self::AuditRead,
        Self::Aborted,
        Self::Checkpoint,
        Self::Recovered,
        Self::BrokenAccepted,
        Self::Poisoned,
        Self::Displaced,
    ];

    /// The word for it in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceStart => "service.start",
            Self::ServiceStop => "service.stop",
            Self::AuthenticationDenied => "authn.denied.summary",
            Self::Denied => "authz.denied",
            Self::Intent => "issue.intent",
            Self::Completed => "issue.completed",
            Self::Minted => "issue.minted",
            Self::Token => "token.issued",
            Self::Failed => "issue.failed",
            Self::RepositoryIntent => "repository.intent",
            Self::RepositoryChanged => "repository.changed",
            Self::RepositoryFailed => "repository.failed",
            Self::RevokeReturned => "revoke.returned",
            Self::RevokeRequested => "revoke.requested",
            Self::RevokeIntent => "revoke.intent",
            Self::RevokeCompleted => "revoke.completed",
            Self::RevokeFailed => "revoke.failed",
            Self::AuditRead => "audit.read",
            Self::Aborted => "issue.aborted",
            Self::Checkpoint => "chain.checkpoint",
            Self::Recovered => "chain.recovered",
            Self::BrokenAccepted => "chain.broken_accepted",
            Self::Poisoned => "segment.poisoned",
            Self::Displaced => "segment.displaced",
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Self::ALL.into_iter().find(|event| event.as_str() == text);
        known.ok_or_else(|| D::Error::custom("not an event of the audit log"))
    }
}

/// One record before the chain's own members (`v`, `chain`, `seq`, `prev`, `hash`) are put around
/// it.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(serialize_with = "display")]
    pub time: Timestamp,
    pub event: Event,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_some")]
    pub request_id: Option<Ulid>,
    /// The address that limits count for: the peer, or the client of a trusted proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<&'a str>,
    /// The actions that were granted, or requested if this is a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Rights>,
    /// For a request about the repository itself: `describe`, `create` or `delete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub rules: &'a [String],
    /// Rules in `mode = "audit"` that match. They granted nothing.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub trial_rules: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderFields<'a>>,
    /// How the request got its credential: `minted`, `shared` or `cached`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// The request that the credential was minted for.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_some")]
    pub minted_by: Option<Ulid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<RevocationFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_token: Option<RegistryTokenFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsFields<'a>>,
    /// The slug of the problem that the caller got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// How long the provider call took, with everything that the provider called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumes: Option<Resumes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_cut: Option<u64>,
    /// How many records were lost while the disk failed. Nobody got a credential for one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct SubjectFields<'a> {
    pub issuer: &'a str,
    pub sub: &'a str,
    /// The SHA-256 of the whole `sub`, if that is longer than what stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_sha256: Option<String>,
}

/// Fields that identify a token, without the token.
#[derive(Serialize)]
pub(super) struct TokenFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct ProviderFields<'a> {
    pub name: &'a str,
    pub sha256: &'a str,
}

#[derive(Serialize)]
pub(super) struct CredentialFields<'a> {
    pub kind: &'static str,
    #[serde(serialize_with = "display")]
    pub location: &'a Location,
    pub scope: Scope,
    pub enforced_by: EnforcedBy,
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// The note of the provider, without a secret, of at most 1 KiB: what it needs to end the
    /// credential early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint_key: Option<&'a str>,
}

/// A token of `/token`. Scopes have a bounded form, and there are at most 16.
#[derive(Serialize)]
pub(super) struct RegistryTokenFields<'a> {
    pub service: &'a str,
    /// What it opens.
    pub scopes: &'a [String],
    /// What was wanted and not granted.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub left_out: &'a [String],
    pub expires_at: Option<String>,
    pub fingerprint: String,
    pub fingerprint_key: &'a str,
}

/// The end of a credential, which `minted_by` of the record names.
#[derive(Default, Serialize)]
pub(super) struct RevocationFields<'a> {
    /// Why it ends.
    pub cause: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<&'a str>,
    /// How many attempts there were, with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Who ends it before its time, and by which request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<RevokerFields<'a>>,
    /// The request whose answer is given back.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_some")]
    pub request_id: Option<Ulid>,
    /// The subject whose credentials an operator ends: `issuer:sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// The provider whose credentials an operator ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'a str>,
    /// The provider was not called: an operator says that the credential is gone.
    #[serde(skip_serializing_if = "is_false")]
    pub gone: bool,
    /// How many credentials an operator ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct RevokerFields<'a> {
    pub issuer: &'a str,
    pub sub: &'a str,
    #[serde(serialize_with = "display")]
    pub request_id: Ulid,
}

/// One change of a repository.
#[derive(Serialize)]
pub(super) struct RepositoryFields<'a> {
    pub name: &'a str,
    pub change: &'static str,
}

/// Fields that find the same request in `CloudTrail`.
#[derive(Serialize)]
pub(super) struct AwsFields<'a> {
    pub role_session_name: &'a str,
    pub role_arn: &'a str,
    pub access_key_id: &'a str,
    /// The `sub` of the broker's own token, by which STS gave the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct SummaryFields<'a> {
    /// An address prefix, `unknown`, or `others` once there are too many.
    pub client: &'a str,
    pub reason: &'a str,
    pub count: u64,
}

/// A signature over the record before this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointFields {
    pub seq: u64,
    pub hash: String,
    /// The Ed25519 public key and the signature, base64url.
    pub key: String,
    pub signature: String,
}

/// The end of the valid part of the log before a segment that begins with this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumes {
    /// Empty: nothing before it is valid.
    pub segment: String,
    pub bytes: u64,
}

impl Record<'_> {
    pub(super) fn blank(time: Timestamp, event: Event) -> Self {
        Record {
            time,
            event,
            request_id: None,
            client: None,
            subject: None,
            token: None,
            project: None,
            registry: None,
            actions: None,
            operation: None,
            rules: &[],
            trial_rules: &[],
            provider: None,
            source: None,
            minted_by: None,
            credential: None,
            repository: None,
            revocation: None,
            registry_token: None,
            aws: None,
            reason: None,
            provider_ms: None,
            summary: None,
            checkpoint: None,
            resumes: None,
            bytes_cut: None,
            dropped: None,
            version: None,
        }
    }

    /// The members, without the braces around them.
    pub(super) fn body(&self) -> std::io::Result<Vec<u8>> {
        let mut body = serde_json::to_vec(self)?;
        body.pop();
        body.remove(0);
        Ok(body)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::ref_option, reason = "the shape that serde asks for")]
fn display_some<S: Serializer>(
    value: &Option<impl Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
