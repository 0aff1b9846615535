//! `secrets`: the registry's own secrets, as handles that no provider can read.
//!
//! **Invariant:** no function of the contract returns the text of a [`SecretHandle`] to a guest.
//! The host decides by its [`SecretOrigin`] where the secret may go.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use wasmtime::component::{Linker, Resource};

use super::state::HasState;
use super::{CallState, MAX_SECRET};
use crate::capability::wit::rise::registry::secrets;
use crate::capability::wit::rise::registry::types::Error;
use crate::domain::{AwsSession, Secret};

/// A secret that a provider can pass on.
#[derive(Clone)]
pub struct SecretHandle {
    pub secret: Arc<Secret>,
    pub origin: SecretOrigin,
    /// Its name in the log: the setting of a configured secret, otherwise its origin.
    pub name: Arc<str>,
    /// Seconds since the Unix epoch, if the host knows.
    pub expires_at: Option<u64>,
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// The operator's settings. The secret opens everything that the operator's account may do.
    Configured,
    /// ECR, for this session, or for the registry's own identity.
    Aws(Option<AwsSession>),
    /// This broker signed it for a registry: it opens exactly the grant.
    RegistryToken,
    /// This broker signed it for a cloud: it is never for a caller.
    IdentityToken,
    /// An answer of the registry over `http`.
    Http,
    /// An answer of the registry that an earlier call has kept. It opens more than one grant.
    Kept,
    /// Signed here with a key of the settings. It is a login of the operator's account.
    Assertion,
    /// Made here for the provider, which does not know it.
    Random,
    /// The provider itself, which wrote the text.
    Guest,
}

impl SecretOrigin {
    /// The AWS session that the secret is a login of.
    pub(crate) fn into_session(self) -> Option<AwsSession> {
        let Self::Aws(session) = self else { return None };
        session
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    secrets::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl secrets::Host for CallState {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<SecretHandle>, Error>> {
        if let Err(refused) = self.begin_for_registry("secrets.get") {
            return Ok(Err(refused));
        }
        match self.capabilities.secrets.get(&name).map(Arc::clone) {
            Some(secret) => Ok(Ok(self.table.push(SecretHandle {
                secret,
                origin: SecretOrigin::Configured,
                name: name.into(),
                expires_at: None,
            })?)),
            None => Ok(Err(Error::InvalidSettings(format!(
                "the secret setting `{}` is not set",
                super::printable(&name, 64)
            )))),
        }
    }
}

/// The longest claim that a provider gets, in bytes: user names, and no nested tokens.
const LONGEST_CLAIM: usize = 1 << 10;

/// Reads the `exp` of a JWT, without verifying it. It tells when a secret expires, and serves for
/// nothing else.
pub(super) fn jwt_expiry(text: &str) -> Option<u64> {
    jwt_claims(text)?.get("exp")?.as_u64()
}

/// Reads a claim of a JWT that is a string, without verifying it.
pub(super) fn jwt_claim(text: &str, name: &str) -> Option<String> {
    let claims = jwt_claims(text)?;
    let claim = claims.get(name)?.as_str()?;
    (claim.len() <= LONGEST_CLAIM).then(|| claim.to_owned())
}

/// Reads the claims of a JWT, without verifying it.
pub(crate) fn jwt_claims(text: &str) -> Option<serde_json::Value> {
    let mut parts = text.split('.').filter(|_| text.len() <= MAX_SECRET);
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok().filter(|_| parts.next().is_none())?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_says_when_it_ends() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(jwt_expiry(&jwt(r#"{"exp":1795255200}"#)), Some(1_795_255_200));
        for none in [
            jwt("{}"),
            jwt(r#"{"exp":"soon"}"#),
            jwt(r#"{"exp":-1}"#),
            jwt("no"),
            jwt(r#"{"exp":1}"#) + ".x",
            "a.b".to_owned(),
            String::new(),
            "opaque".to_owned(),
        ] {
            assert_eq!(jwt_expiry(&none), None, "{none}");
        }
    }

    #[test]
    fn a_jwt_says_whom_it_is_for() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let long = "x".repeat(LONGEST_CLAIM + 1);
        for (claims, expected) in [
            (r#"{"sub":"jfac@01/users/robot"}"#, Some("jfac@01/users/robot")),
            (r#"{"sub":""}"#, Some("")),
            (r#"{"sub":7}"#, None),
            (r#"{"sub":["robot"]}"#, None),
            (r#"{"name":"robot"}"#, None),
            ("robot", None),
            (&format!(r#"{{"sub":"{long}"}}"#), None),
        ] {
            assert_eq!(jwt_claim(&jwt(claims), "sub").as_deref(), expected, "{claims}");
        }
        assert_eq!(jwt_claim("no.jwt", "sub"), None);
    }
}
