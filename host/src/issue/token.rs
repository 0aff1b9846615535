//! A registry token for what was granted: signed, recorded, and then handed out.
//!
//! **Invariant (I2):** [`IssuedToken`] exists after its record is durable.
//! **Invariant (I6):** each entry of a caller's token is of a grant that was [`Admitted`], or of a
//! [`CatalogGrant`], and each of a password's is covered by what was granted for the password.

use std::sync::Arc;

use jiff::Timestamp;
use ulid::Ulid;

use super::{IssueError, Issuing};
use crate::audit::TokenFacts;
use crate::domain::{Actions, ClientAddress, Secret, Subject};
use crate::identity::Reservation;
use crate::limits::Admitted;
use crate::rules::CatalogGrant;
use crate::signing::{CoveredScope, Password, RegistryToken, RepositoryAccess, Signing};

/// One request for a token, with what is granted of it.
pub struct TokenOrder {
    pub id: Ulid,
    pub client: ClientAddress,
    /// The name of the registry, which its tokens have as audience.
    pub service: String,
    pub basis: TokenBasis,
    /// The scopes that are not granted, for the record.
    pub left_out: Vec<String>,
    /// The names of matching rules on trial, which granted nothing.
    pub trial: Vec<String>,
    pub signing: Arc<Signing>,
}

/// Why something is granted.
pub enum TokenBasis {
    /// The rules allow it this caller, now.
    Caller {
        subject: Subject,
        granted: Vec<GrantedScope>,
        /// The list of all repositories, which is no project's.
        catalog: Option<CatalogGrant>,
        /// The caller's token, if it is used up by this.
        token: Option<Reservation>,
    },
    /// It was granted when the password was issued.
    Password { password: Password, covered: Vec<CoveredScope> },
}

/// A repository that a caller may use.
pub struct GrantedScope {
    pub admitted: Admitted,
    /// The project's, or one below it.
    pub repository: String,
}

/// A token whose record is durable.
pub struct IssuedToken {
    pub token: Secret,
    pub seconds: u32,
    pub issued_at: Timestamp,
    pub scopes: Vec<String>,
}

impl GrantedScope {
    pub fn actions(&self) -> Actions {
        self.admitted.grant().actions()
    }
}

impl Issuing {
    /// Answers `order` with a token whose record is durable.
    pub async fn issue_token(&self, order: TokenOrder) -> Result<IssuedToken, IssueError> {
        self.0.audit.check()?;
        let now = self.0.clock.now();
        let TokenOrder { id, client, service, basis, left_out, trial, signing } = order;
        let seconds = basis.seconds(signing.token_seconds(), now);
        let access = basis.access();
        let scopes: Vec<String> = access.iter().map(ToString::to_string).collect();
        let token = RegistryToken {
            id,
            granted_to: basis.granted_to(id),
            service: &service,
            access,
            password: None,
            seconds,
        };
        let signed = signing.registry_token(&token, now);
        let signed = signed.map_err(|error| IssueError::Internal(error.to_string()))?;
        let facts = TokenFacts {
            id,
            client,
            subject: basis.subject(),
            minted_by: basis.password().map(|password| password.grant),
            only: basis.only(),
            rules: basis.rules(),
            trial: &trial,
            service: &service,
            scopes: &scopes,
            left_out: &left_out,
            token: &signed.token,
            expires_at: signed.expires_at,
        };
        if let TokenBasis::Caller { token: Some(token), .. } = &basis {
            token.secure().await?;
        }
        self.0.audit.token_issued(&facts).await?;
        let (registry, source) = (basis.registry(), basis.source());
        self.0.metrics.registry_token(&registry, source);
        tracing::info!(
            service,
            scopes = scopes.join(" "),
            left_out = left_out.join(" "),
            source,
            "issued a registry token"
        );
        if let TokenBasis::Caller { token: Some(token), .. } = basis {
            token.commit();
        }
        Ok(IssuedToken { token: signed.token, seconds, issued_at: now, scopes })
    }
}

impl TokenBasis {
    fn access(&self) -> Vec<RepositoryAccess> {
        match self {
            Self::Caller { granted, catalog, .. } => granted
                .iter()
                .map(|scope| RepositoryAccess::repository(&scope.repository, scope.actions()))
                .chain(catalog.as_ref().map(RepositoryAccess::catalog))
                .collect(),
            Self::Password { covered, .. } => covered.iter().map(CoveredScope::access).collect(),
        }
    }

    /// How long the token is valid: never longer than what it is granted by.
    fn seconds(&self, usual: u32, now: Timestamp) -> u32 {
        match self {
            Self::Caller { granted, .. } => granted
                .iter()
                .map(|scope| scope.admitted.grant().lifetime().seconds())
                .fold(usual, u32::min),
            Self::Password { password, .. } => {
                let left = password.expires_at.saturating_sub(now.as_second());
                usual.min(u32::try_from(left).unwrap_or(0))
            }
        }
    }

    /// The request that was granted, which the registry's log names.
    fn granted_to(&self, id: Ulid) -> Ulid {
        self.password().map_or(id, |password| password.grant)
    }

    fn password(&self) -> Option<&Password> {
        match self {
            Self::Caller { .. } => None,
            Self::Password { password, .. } => Some(password),
        }
    }

    fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Caller { subject, .. } => Some(subject),
            Self::Password { .. } => None,
        }
    }

    /// Registry, project and actions, if the token is for one repository.
    fn only(&self) -> Option<(&str, &str, Actions)> {
        let Self::Caller { granted, catalog: None, .. } = self else { return None };
        let [scope] = &granted[..] else { return None };
        let grant = scope.admitted.grant();
        Some((grant.registry().as_str(), grant.project().as_str(), grant.actions()))
    }

    /// The names of the rules that granted something, each once.
    fn rules(&self) -> Vec<String> {
        let Self::Caller { granted, catalog, .. } = self else { return Vec::new() };
        let of_scopes = granted.iter().flat_map(|scope| scope.admitted.grant().rules());
        let of_catalog = catalog.iter().flat_map(CatalogGrant::rules);
        let mut rules: Vec<String> = of_scopes.chain(of_catalog).cloned().collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// The registry's name in metrics; empty if the token opens nothing, or repositories of two.
    fn registry(&self) -> String {
        match self {
            Self::Password { password, .. } => password.registry.to_string(),
            Self::Caller { granted, .. } => {
                let mut names = granted.iter().map(|scope| scope.admitted.grant().registry());
                let first = names.next();
                let is_only = names.all(|name| Some(name) == first);
                first.filter(|_| is_only).map(ToString::to_string).unwrap_or_default()
            }
        }
    }

    fn source(&self) -> &'static str {
        match self {
            Self::Caller { .. } => "caller",
            Self::Password { .. } => "password",
        }
    }
}
