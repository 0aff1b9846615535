//! The JSON of an answer with credentials.

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;
use utoipa::ToSchema;

use crate::domain::{Actions, Credential, EndedBy, EnforcedBy, Scope};
use crate::issue::Issued;

#[derive(Serialize, ToSchema)]
#[schema(as = Credentials, description = "What was issued, and what it is good for.")]
pub(in crate::http) struct CredentialsAnswer {
    credentials: LoginFields,
    repository: String,
    /// `{registry_url}/{repository}`. Append `:tag` for a reference to push to.
    image: String,
    #[schema(
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$"
    )]
    project: String,
    registry: String,
    #[schema(value_type = Vec<String>, example = json!(["pull", "push"]))]
    actions: Actions,
    /// When to ask again: half of the credential's life. `null` where nothing ends.
    #[schema(required, format = DateTime)]
    refresh_after: Option<String>,
    #[schema(value_type = String, pattern = "^(none|repository|namespace|registry)$")]
    scope: Scope,
    #[schema(value_type = String, pattern = "^(host|provider)$")]
    enforced_by: EnforcedBy,
    /// `broker` if the registry would let the credential live longer than was granted, and the
    /// broker ends it at `expires_at`. Absent if the credential ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^broker$")]
    ended_by: Option<EndedBy>,
    /// Whether the credential can be given back before it expires.
    revocable: bool,
    #[schema(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$")]
    request_id: String,
}

/// A secret leaves here, on its way to the caller. Its record is durable by now.
#[derive(Serialize, ToSchema)]
#[schema(as = Login, description = "For the registry's login.")]
struct LoginFields {
    registry_url: String,
    username: String,
    password: String,
    /// In seconds. `null` if the credentials do not expire.
    #[schema(required)]
    expires_in: Option<i64>,
    /// `null` if the credentials do not expire.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    #[schema(pattern = "^(basic|client-auth|bearer|refresh)$")]
    kind: &'static str,
}

impl CredentialsAnswer {
    pub(super) fn new(issued: &Issued, id: Ulid, now: Timestamp) -> Self {
        let credentials = &*issued.credentials;
        let username = match &credentials.credential {
            Credential::Basic { username, .. } => username.clone(),
            Credential::ClientAuth | Credential::Bearer(_) | Credential::Refresh(_) => {
                String::new()
            }
        };
        Self {
            credentials: LoginFields {
                registry_url: credentials.location.host.to_string(),
                username,
                password: credentials
                    .credential
                    .secret()
                    .map(|secret| secret.expose().to_owned())
                    .unwrap_or_default(),
                expires_in: credentials.expires_at.map(|at| at.as_second() - now.as_second()),
                expires_at: credentials.expires_at.map(|at| at.to_string()),
                kind: credentials.credential.kind(),
            },
            repository: credentials.location.repository.clone(),
            image: credentials.location.to_string(),
            project: credentials.project.to_string(),
            registry: credentials.registry.to_string(),
            actions: credentials.actions,
            refresh_after: issued.refresh_after.map(|at| at.to_string()),
            scope: credentials.scope,
            enforced_by: credentials.enforced_by,
            ended_by: Some(credentials.ended_by).filter(|by| *by == EndedBy::Broker),
            revocable: credentials.note.is_some(),
            request_id: id.to_string(),
        }
    }
}
