//! Tokens of the Distribution project's specification: what a registry of that kind checks before
//! it lets somebody pull or push.
//!
//! They work with Distribution 2.8 and 3: `aud` is one text, and the key is named by `kid` and by a
//! certificate (`x5c`) that the registry has in its `rootcertbundle`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use ulid::Ulid;

use super::{SignedToken, Signing};
use crate::domain::location::LocationPattern;
use crate::domain::{Actions, RegistryName};
use crate::keys::SigningError;
use crate::rules::{CatalogGrant, Grant};

/// The content of a token.
pub struct RegistryToken<'a> {
    pub id: Ulid,
    /// In the registry's log: the request that was granted, as in AWS's.
    pub granted_to: Ulid,
    /// The registry's name for itself: `service` of its settings and of its challenge.
    pub service: &'a str,
    pub access: Vec<RepositoryAccess>,
    /// The registry and lifetime of a token that is a password, too.
    pub password: Option<PasswordClaims<'a>>,
    pub seconds: u32,
}

/// What a password has beside its access.
pub struct PasswordClaims<'a> {
    pub(super) registry: &'a RegistryName,
    /// Where the registry's projects were when it was issued: `host/apps/{project}`. Elsewhere, its
    /// repository may be another project's.
    pub(super) location: String,
    /// Whether it opens everything below its repository.
    pub(super) children: bool,
}

/// One entry of `access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryAccess {
    pub(super) r#type: String,
    pub name: String,
    pub actions: Vec<String>,
}

impl RepositoryAccess {
    pub fn repository(name: &str, actions: Actions) -> Self {
        let actions = actions.iter().map(|action| action.as_str().to_owned()).collect();
        Self { r#type: "repository".to_owned(), name: name.to_owned(), actions }
    }

    /// The list of all repositories.
    pub fn catalog(_: &CatalogGrant) -> Self {
        let [r#type, name] = ["registry", "catalog"].map(str::to_owned);
        Self { r#type, name, actions: vec!["*".to_owned()] }
    }
}

impl std::fmt::Display for RepositoryAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.r#type, self.name, self.actions.join(","))
    }
}

impl Signing {
    /// Signs a token for exactly the grant. It is a password, too, for as long as the grant lasts.
    pub fn grant_token(
        &self,
        grant: &Grant,
        service: &str,
        (pattern, children): (&LocationPattern, bool),
        now: Timestamp,
    ) -> Result<SignedToken, SigningError> {
        let repository = pattern.fill(grant.project()).repository;
        let token = RegistryToken {
            id: grant.id(),
            granted_to: grant.id(),
            service,
            access: vec![RepositoryAccess::repository(&repository, grant.actions())],
            password: Some(PasswordClaims {
                registry: grant.registry(),
                location: pattern.to_string(),
                children,
            }),
            seconds: grant.lifetime().seconds(),
        };
        self.registry_token(&token, now)
    }

    pub fn registry_token(
        &self,
        token: &RegistryToken<'_>,
        now: Timestamp,
    ) -> Result<SignedToken, SigningError> {
        let mut claims = json!({
            "sub": format!("rise-{}", token.granted_to),
            "aud": token.service,
            "access": token.access,
        });
        if let (Some(password), Some(claims)) = (&token.password, claims.as_object_mut()) {
            claims.insert("registry".to_owned(), password.registry.as_str().into());
            claims.insert("location".to_owned(), password.location.as_str().into());
            claims.insert("children".to_owned(), password.children.into());
        }
        let chain = json!({ "x5c": [STANDARD.encode(&self.keys.current().certificate)] });
        self.sign(chain, claims, token.id, (now, token.seconds))
    }
}
