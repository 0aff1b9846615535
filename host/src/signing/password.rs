//! A registry token of a grant that comes back as a password at `/token`.
//!
//! **Invariant:** nothing of a password is read before its signature is verified.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use ulid::Ulid;

use super::{RepositoryAccess, Signing};
use crate::domain::{Action, Actions, RegistryName};

/// No token that this broker signs is longer.
const LONGEST: usize = 16 << 10;

/// A password that this broker issued, and that is still valid.
#[derive(Debug)]
pub struct Password {
    /// The grant that it was issued for.
    pub grant: Ulid,
    pub registry: RegistryName,
    pub service: String,
    /// Where the registry's projects were when it was issued.
    pub location: String,
    /// When it ends, in seconds since the Unix epoch.
    pub expires_at: i64,
    /// The repository of its project.
    pub repository: String,
    actions: Actions,
    children: bool,
}

/// A part of what a password opens. Only [`Password::cover`] makes one.
#[derive(Debug)]
pub struct CoveredScope {
    repository: String,
    pub actions: Actions,
}

impl CoveredScope {
    pub fn access(&self) -> RepositoryAccess {
        RepositoryAccess::repository(&self.repository, self.actions)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    #[error("the password is signed by no key of this broker")]
    Signature,
    #[error("the password has expired")]
    Expired,
    #[error("the password is for another service")]
    Service,
    #[error("the password is for another place of its registry's images")]
    Moved,
    #[error("the password is a token that is no password")]
    Kind,
}

#[derive(Deserialize)]
struct Header {
    kid: String,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    exp: i64,
    jti: String,
    access: Vec<RepositoryAccess>,
    registry: String,
    location: String,
    children: bool,
}

impl Signing {
    /// Whether a password claims to be of this broker. Nothing of it is verified.
    pub fn is_own(&self, password: &str) -> bool {
        let payload = password.split('.').nth(1).filter(|_| password.len() <= LONGEST);
        let payload = payload.and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        claims.is_some_and(|claims: IssuerClaim| claims.iss == self.issuer)
    }

    /// The password, if it is valid.
    pub fn password(&self, text: &str, now: Timestamp) -> Result<Password, InvalidPassword> {
        let payload = self.verified(text).ok_or(InvalidPassword::Signature)?;
        let claims = serde_json::from_slice::<Claims>(&payload);
        let claims = claims.map_err(|_| InvalidPassword::Kind)?;
        if claims.iss != self.issuer {
            return Err(InvalidPassword::Signature);
        }
        if claims.exp <= now.as_second() {
            return Err(InvalidPassword::Expired);
        }
        let [access] = &claims.access[..] else { return Err(InvalidPassword::Kind) };
        let names = access.actions.iter().map(String::as_str);
        Ok(Password {
            grant: claims.jti.parse().map_err(|_| InvalidPassword::Kind)?,
            registry: claims.registry.parse().map_err(|_| InvalidPassword::Kind)?,
            service: claims.aud,
            location: claims.location,
            expires_at: claims.exp,
            repository: access.name.clone(),
            actions: Actions::parse(names).map_err(|_| InvalidPassword::Kind)?,
            children: claims.children,
        })
    }

    /// The payload of a token that one of the keys has signed.
    fn verified(&self, text: &str) -> Option<Vec<u8>> {
        let (signed, signature) = text.rsplit_once('.').filter(|_| text.len() <= LONGEST)?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let key = self.keys.find(&header.kid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        key.has_signed(signed.as_bytes(), &signature).then_some(payload)
    }
}

impl Password {
    /// What the password opens of the actions on this repository.
    pub fn cover(&self, repository: &str, wanted: Actions) -> Option<CoveredScope> {
        let actions = self.allowed(repository, wanted);
        let repository = repository.to_owned();
        (!actions.is_empty()).then_some(CoveredScope { repository, actions })
    }

    fn allowed(&self, repository: &str, wanted: Actions) -> Actions {
        let below = repository.strip_prefix(&self.repository);
        let is_covered = match below {
            Some("") => true,
            Some(below) => self.children && below.starts_with('/'),
            None => false,
        };
        if !is_covered {
            return Actions::NONE;
        }
        let missing = Action::ALL.into_iter().filter(|action| !self.actions.contains(*action));
        missing.fold(wanted, Actions::without)
    }
}
