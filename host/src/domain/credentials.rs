//! What a caller gets.

use jiff::Timestamp;

use super::{Actions, EnforcedBy, Location, Project, RegistryName, Scope, Secret};

/// Credentials that have passed every check and may leave once their record is durable.
pub struct Credentials {
    pub project: Project,
    pub registry: RegistryName,
    pub actions: Actions,
    pub location: Location,
    pub credential: Credential,
    /// `None` where the registry sets no end.
    pub expires_at: Option<Timestamp>,
    pub scope: Scope,
    pub enforced_by: EnforcedBy,
    /// Where it was made through AWS.
    pub session: Option<AwsSession>,
}

/// What AWS's own records call the session that a credential was made with. No secret: the key itself is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSession {
    pub session_name: String,
    pub role_arn: String,
    pub access_key_id: String,
}

/// The shapes of credentials that registries take.
pub enum Credential {
    /// The caller already has credentials of its own.
    ClientAuth,
    /// For `docker login`.
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

    /// The secret part, where there is one.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::ClientAuth => None,
            Self::Basic { password, .. } | Self::Bearer(password) | Self::Refresh(password) => {
                Some(password)
            }
        }
    }
}
