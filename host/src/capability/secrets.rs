//! `secrets`: the registry's own secrets, as handles that nobody can read.
//!
//! **Invariant:** no function of the contract gives the text behind a [`Handle`] to a guest. The host decides by
//! [`Origin`] where it may go.

use std::sync::Arc;

use wasmtime::component::{Linker, Resource};

use super::{CallState, HasState};
use crate::domain::{Scope, Secret};
use crate::wit::rise::registry::secrets;
use crate::wit::rise::registry::types::Error;

/// A secret in the hands of a provider.
pub struct Handle {
    pub secret: Arc<Secret>,
    pub origin: Origin,
    /// Seconds since the Unix epoch, where the host knows.
    pub expires_at: Option<u64>,
}

/// Where a secret came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator's settings. It opens whatever the operator's account may do.
    Configured,
    /// ECR, by a session that was as narrow as this.
    Aws(Scope),
    /// The provider wrote it itself.
    Guest,
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    secrets::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl secrets::Host for CallState {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Resource<Handle>, Error>> {
        if let Err(refused) = self.issuing("secrets.get") {
            return Ok(Err(refused));
        }
        match self.capabilities.secrets.get(&name).map(Arc::clone) {
            Some(secret) => Ok(Ok(self.table.push(Handle {
                secret,
                origin: Origin::Configured,
                expires_at: None,
            })?)),
            None => Ok(Err(Error::InvalidSettings(format!(
                "the secret setting `{}` is not set",
                super::printable(&name, 64)
            )))),
        }
    }
}
