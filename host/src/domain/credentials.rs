//! The credentials that a caller receives.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Actions, EnforcedBy, Location, Project, RegistryName, Scope, Secret};

/// Credentials that have passed every check. They may leave the broker when their record is
/// durable.
pub struct Credentials {
    pub project: Project,
    pub registry: RegistryName,
    pub actions: Actions,
    pub location: Location,
    pub credential: Credential,
    /// `None` if the credential does not expire.
    pub expires_at: Option<Timestamp>,
    pub ended_by: EndedBy,
    /// What the provider needs to end it early; `None` if it cannot.
    pub note: Option<String>,
    pub scope: Scope,
    pub enforced_by: EnforcedBy,
    /// The AWS session, if the credential was made through AWS.
    pub session: Option<AwsSession>,
}

/// The party that ends a credential at its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// The registry, or the times in the credential itself.
    Registry,
    /// The broker: the registry would let it live longer than was granted.
    Broker,
}

/// What AWS throttles as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsAccount {
    /// `ecr` or `ecr-public`.
    pub service: &'static str,
    /// Empty: the one of the broker's own identity.
    pub account: String,
    pub region: String,
}

/// Identifies the AWS session of a credential in `CloudTrail`. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSession {
    pub session_name: String,
    pub role_arn: String,
    pub access_key_id: String,
    /// The `sub` of the token by which STS knew the broker, if it has no AWS keys.
    pub web_identity: Option<String>,
}

/// The kinds of credentials that registries accept.
pub enum Credential {
    /// The caller uses its own login.
    ClientAuth,
    /// User name and password for `docker login`.
    Basic { username: String, password: Secret },
    /// A bearer token for the registry itself.
    Bearer(Secret),
    /// A refresh token for the registry's token service.
    Refresh(Secret),
}

impl Credential {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ClientAuth => "client-auth",
            Self::Basic { .. } => "basic",
            Self::Bearer(_) => "bearer",
            Self::Refresh(_) => "refresh",
        }
    }

    /// Returns the secret part, if there is one.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::ClientAuth => None,
            Self::Basic { password, .. } | Self::Bearer(password) | Self::Refresh(password) => {
                Some(password)
            }
        }
    }
}
