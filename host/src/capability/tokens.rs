//! `tokens`: tokens that this broker signs, for what was granted and nothing else.
//!
//! **Invariant (I4):** a provider chooses a service or an audience within the ceiling. Everything
//! else in a token is written by `signing`, from the grant of the call.
//! **Invariant:** an identity token leaves over `http` to the registry's own endpoints, and in no
//! other way: `issue/mint.rs` rejects it as a credential, an answer that repeats it is withheld.

use std::sync::Arc;

use jiff::Timestamp;
use wasmtime::component::{Linker, Resource};

use super::assertions::MOST;
use super::secrets::{SecretHandle, SecretOrigin};
use super::state::HasState;
use super::{CallState, printable};
use crate::capability::wit::rise::registry::tokens;
use crate::capability::wit::rise::registry::types::Error;
use crate::config::TokenCeilingFile;
use crate::domain::location::LocationPattern;
use crate::keys::SigningError;
use crate::rules::GrantView;
use crate::signing::{SignedToken, Signing};

/// The longest name of a service or audience.
const LONGEST_NAME: usize = 255;
/// A default is the provider's word, and only the operator opens a ceiling.
const WRITTEN: &str = "as the settings of the operator have it: a default of the provider opens \
    nothing";

/// What one registry may have signed, and by whom.
#[derive(Clone)]
pub struct TokenAccess {
    pub ceiling: TokenCeiling,
    pub signing: Arc<Signing>,
    /// Where the registry's projects are.
    pub pattern: LocationPattern,
    /// Whether a project owns everything below its repository.
    pub children: bool,
}

/// The tokens that the operator's settings allow one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCeiling {
    pub services: Vec<String>,
    pub audiences: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokenCeiling {
    #[error(
        "`{0}` is not the name of a service or audience: expected 1 to 255 printable characters"
    )]
    Name(String),
    #[error(
        "`{0}` is a service and an audience: tokens for the registry reach callers, who could show \
         them to the cloud; give the two different names"
    )]
    Both(String),
}

impl TokenCeiling {
    /// `service` and `audience` stand for what the settings do not state. Without any of them, no
    /// token is signed.
    pub fn new(
        stated: Option<&TokenCeilingFile>,
        service: Option<&str>,
        audience: Option<&str>,
    ) -> Result<Self, InvalidTokenCeiling> {
        let names = |stated: Option<&Vec<String>>, default: Option<&str>| {
            let default = || default.map(str::to_owned).into_iter().collect();
            stated.cloned().unwrap_or_else(default)
        };
        let ceiling = Self {
            services: names(stated.and_then(|stated| stated.services.as_ref()), service),
            audiences: names(stated.and_then(|stated| stated.audiences.as_ref()), audience),
        };
        let is_name = |name: &String| {
            (1..=LONGEST_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        match ceiling.services.iter().chain(&ceiling.audiences).find(|name| !is_name(name)) {
            Some(wrong) => Err(InvalidTokenCeiling::Name(printable(wrong, LONGEST_NAME))),
            None => match ceiling.services.iter().find(|name| ceiling.audiences.contains(name)) {
                Some(both) => Err(InvalidTokenCeiling::Both(both.clone())),
                None => Ok(ceiling),
            },
        }
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    tokens::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl CallState {
    /// Begins a function: returns the grant to sign for and what to sign with, or the refusal. A
    /// registry that has nothing signed has no access.
    fn tokens(&mut self, import: &'static str) -> Result<(GrantView, Option<TokenAccess>), Error> {
        let grant = self.begin(import)?;
        // Counted before anything is checked: a signature takes a millisecond of a processor.
        self.signatures += 1;
        if self.signatures > MOST {
            return Err(self.refuse(format!("more than {MOST} signatures")));
        }
        Ok((grant, self.capabilities.tokens.clone()))
    }

    pub(super) fn time(&self) -> Timestamp {
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        Timestamp::from_second(now).unwrap_or(Timestamp::MAX)
    }

    fn sign_for_registry(&mut self, service: &str) -> Result<SecretHandle, Error> {
        let (grant, access) = self.tokens("tokens.registry-token")?;
        let names = |access: &TokenAccess| access.ceiling.services.iter().any(|it| it == service);
        let Some(access) = access.filter(names) else {
            let asked = printable(service, LONGEST_NAME);
            return Err(self.refuse(format!(
                "a registry token for the service `{asked}`, which is not in \
                 `ceiling.tokens.services` of its registry; by default that is the setting \
                 `service`, or else the host of `registry_url`, {WRITTEN}"
            )));
        };
        let place = (&access.pattern, access.children);
        let signed = access.signing.grant_token(&grant, service, place, self.time());
        handle(signed, SecretOrigin::RegistryToken, "registry-token")
    }

    fn sign_for_cloud(&mut self, audience: &str) -> Result<SecretHandle, Error> {
        let (grant, access) = self.tokens("tokens.identity-token")?;
        let names = |access: &TokenAccess| access.ceiling.audiences.iter().any(|it| it == audience);
        let Some(access) = access.filter(names) else {
            let asked = printable(audience, LONGEST_NAME);
            return Err(self.refuse(format!(
                "an identity token for the audience `{asked}`, which is not in \
                 `ceiling.tokens.audiences` of its registry; by default that is the setting \
                 `audience`, {WRITTEN}"
            )));
        };
        let signed = access.signing.identity_token(&grant, audience, self.time());
        let handle = handle(signed, SecretOrigin::IdentityToken, "identity-token")?;
        // From now on the cloud may answer what it trusts this one project with.
        self.keeps_apart = true;
        Ok(handle)
    }
}

fn handle(
    signed: Result<SignedToken, SigningError>,
    origin: SecretOrigin,
    name: &str,
) -> Result<SecretHandle, Error> {
    let SignedToken { token, expires_at } =
        signed.map_err(|error| Error::Failed(error.to_string()))?;
    let secret = Arc::new(token);
    Ok(SecretHandle { secret, origin, name: name.into(), expires_at: Some(expires_at) })
}

impl tokens::Host for CallState {
    fn registry_token(
        &mut self,
        service: String,
    ) -> wasmtime::Result<Result<Resource<SecretHandle>, Error>> {
        match self.sign_for_registry(&service) {
            Ok(handle) => Ok(Ok(self.give(handle)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn identity_token(
        &mut self,
        audience: String,
    ) -> wasmtime::Result<Result<Resource<SecretHandle>, Error>> {
        let handle = match self.sign_for_cloud(&audience) {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        let token = Arc::clone(&handle.secret);
        let handle = self.give(handle)?;
        self.issued.add_private(&token, "an identity token");
        Ok(Ok(handle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_stated_counts_and_else_what_the_settings_say() {
        let stated = TokenCeilingFile { services: Some(names(&["a", "b"])), audiences: None };
        let ceiling = TokenCeiling::new;
        let both = ceiling(Some(&stated), Some("c"), Some("d")).unwrap();
        assert_eq!((both.services.len(), both.audiences), (2, vec!["d".to_owned()]));
        let default = ceiling(None, Some("c"), None).unwrap();
        assert_eq!((default.services, default.audiences), (vec!["c".to_owned()], vec![]));
        assert_eq!(ceiling(None, None, None), Ok(TokenCeiling::default()));
        for wrong in ["", "a\nb", &"x".repeat(256)] {
            let stated = TokenCeilingFile { services: Some(names(&[wrong])), audiences: None };
            let wrong = printable(wrong, LONGEST_NAME);
            let error = ceiling(Some(&stated), None, None);
            assert_eq!(error, Err(InvalidTokenCeiling::Name(wrong)));
        }
    }
}
