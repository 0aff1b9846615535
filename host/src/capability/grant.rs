//! `types`: the grant and the secrets that a provider holds. They are resources, so that a later
//! fact is one more function.

use std::sync::Arc;

use wasmtime::component::{Linker, Resource};

use super::secrets::{SecretHandle, SecretOrigin, jwt_claim};
use super::state::{HasState, Purpose};
use super::{CallState, LimitExceeded, MAX_SECRET};
use crate::capability::wit::rise::registry::types::{self, Actions, Error};
use crate::domain::{Action, Secret};
use crate::rules::GrantView;

/// The longest note about a credential, in bytes.
const MAX_NOTE: usize = 1 << 10;

/// A grant that a provider holds.
pub struct GrantHandle {
    pub(super) grant: GrantView,
    pub(super) now: u64,
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    types::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl types::Host for CallState {}

impl types::HostGrant for CallState {
    fn id(&mut self, grant: Resource<GrantHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&grant)?.grant.id().to_string())
    }

    fn project(&mut self, grant: Resource<GrantHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&grant)?.grant.project().to_string())
    }

    fn actions(&mut self, grant: Resource<GrantHandle>) -> wasmtime::Result<Actions> {
        let granted = self.table.get(&grant)?.grant.actions();
        Ok(granted.iter().fold(Actions::empty(), |flags, action| match action {
            Action::Pull => flags | Actions::PULL,
            Action::Push => flags | Actions::PUSH,
        }))
    }

    fn lifetime(&mut self, grant: Resource<GrantHandle>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&grant)?.grant.lifetime().seconds())
    }

    fn now(&mut self, grant: Resource<GrantHandle>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&grant)?.now)
    }

    fn remember(
        &mut self,
        grant: Resource<GrantHandle>,
        text: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.table.get(&grant)?;
        Ok(self.keep_note(text))
    }

    fn drop(&mut self, grant: Resource<GrantHandle>) -> wasmtime::Result<()> {
        self.table.delete(grant)?;
        Ok(())
    }
}

impl CallState {
    /// A note goes into the audit log, so it is short, for people to read, and without a secret.
    fn keep_note(&mut self, text: String) -> Result<(), Error> {
        self.begin("grant.remember")?;
        if !matches!(self.purpose, Purpose::Issue(_)) {
            return Err(self.refuse("`grant.remember` outside `issue`".to_owned()));
        }
        if let Some(asked) = self.wrong_note(&text) {
            return Err(self.refuse(asked));
        }
        self.note = Some(text);
        Ok(())
    }

    /// What is wrong with a note about a credential.
    pub(crate) fn wrong_note(&self, text: &str) -> Option<String> {
        let is_plain = !text.is_empty() && !text.chars().any(char::is_control);
        if !is_plain || text.len() > MAX_NOTE {
            let wrong = "a note that is empty, longer than 1 KiB, or has control characters";
            return Some(wrong.to_owned());
        }
        self.withheld(text).map(|secret| format!("a note that holds {secret}"))
    }
}

impl types::HostSecret for CallState {
    /// Makes a secret of the provider's own text. It traps on an error, because a constructor
    /// cannot return one.
    fn new(&mut self, text: String) -> wasmtime::Result<Resource<SecretHandle>> {
        if matches!(self.purpose, Purpose::Nothing) {
            return Err(wasmtime::Error::msg("a secret was made outside `issue`"));
        }
        if text.len() > MAX_SECRET {
            return Err(LimitExceeded("secret bytes").into());
        }
        self.capabilities.observer.made_secret(&text);
        let (secret, origin) = (Arc::new(Secret::new(text)), SecretOrigin::Guest);
        self.give(SecretHandle { secret, origin, name: "guest".into(), expires_at: None })
    }

    fn expires_at(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<Option<u64>> {
        Ok(self.table.get(&secret)?.expires_at)
    }

    /// A claim of what the registry returned to this call. An answer with a configured secret never
    /// gets this far as text, but base64 of a whole token may hold one.
    fn claim(
        &mut self,
        secret: Resource<SecretHandle>,
        name: String,
    ) -> wasmtime::Result<Option<String>> {
        let handle = self.table.get(&secret)?;
        let is_readable = handle.origin == SecretOrigin::Http;
        let claim = is_readable.then(|| jwt_claim(handle.secret.expose(), &name)).flatten();
        Ok(claim.filter(|claim| self.withheld(claim).is_none()))
    }

    fn drop(&mut self, secret: Resource<SecretHandle>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}
