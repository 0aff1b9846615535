//! Built against the oldest frozen copy of the contract, without the SDK. Today's host must load
//! it.
//!
//! **Never** use another copy here: this guest represents every component that was built before.

#![cfg(target_arch = "wasm32")]

use bindings::exports::rise::registry::registry::{Guest, Manifest, Problem, Scope};
use bindings::rise::registry::log::{self, Level};
use bindings::rise::registry::types::{Credential, Error, Grant, Issued, Location};

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; unsafe is how the canonical ABI is spoken"
)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/frozen/0.1.0", world: "provider" });
}

struct OldestContract;

#[expect(unsafe_code, reason = "the generated macro exports C functions")]
mod export {
    use super::{OldestContract, bindings};
    bindings::export!(OldestContract with_types_in bindings);
}

/// Reads the only setting, without a JSON parser.
fn host(settings: &str) -> Option<String> {
    let (_, rest) = settings.split_once("\"registry_url\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

impl Guest for OldestContract {
    fn describe() -> Manifest {
        Manifest {
            name: "oldest-contract".to_owned(),
            aliases: Vec::new(),
            version: "0.1.0".to_owned(),
            description: "Built against the oldest copy of the contract".to_owned(),
            settings_schema: r#"{"type":"object","additionalProperties":false,"required":["registry_url"],"properties":{"registry_url":{"type":"string"}}}"#.to_owned(),
        }
    }

    fn check(settings: String) -> Result<Scope, Vec<Problem>> {
        let wrong = Problem { path: "/registry_url".to_owned(), message: "missing".to_owned() };
        host(&settings).map(|_| Scope::None).ok_or_else(|| vec![wrong])
    }

    fn locate(settings: String, project: String) -> Result<Location, Error> {
        let host = host(&settings).ok_or_else(|| Error::InvalidSettings("missing".to_owned()))?;
        Ok(Location { host, repository: project })
    }

    fn resolve(settings: String, location: Location) -> Option<String> {
        (host(&settings)? == location.host && !location.repository.contains('/'))
            .then_some(location.repository)
    }

    fn issue(_: String, grant: Grant) -> Result<Issued, Error> {
        log::write(Level::Debug, &format!("granted {}", grant.id()));
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
