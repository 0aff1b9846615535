//! Everything that the author of a registry provider needs.
//!
//! A provider turns a [`Grant`] into a credential for one registry. Implement [`Provider`] for a
//! unit struct, pass it to [`export_provider!`], and build the crate as a `cdylib` for
//! `wasm32-wasip2`. This is the smallest complete provider:
//!
//! ```
//! use rise_provider::{
//!     Credential, Error, Grant, Issued, Location, Problem, Provider, Scope, export_provider,
//! };
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! struct Example;
//!
//! export_provider!(Example);
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     /// Host and port, such as `localhost:5000`.
//!     registry_url: String,
//! }
//!
//! impl Provider for Example {
//!     type Settings = Settings;
//!
//!     const NAME: &'static str = "example";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     const DESCRIPTION: &'static str = "Callers bring credentials of their own.";
//!
//!     fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
//!         Ok(Scope::None)
//!     }
//!
//!     fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
//!         Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
//!     }
//!
//!     fn resolve(settings: &Settings, location: &Location) -> Option<String> {
//!         (location.host == settings.registry_url).then(|| location.repository.clone())
//!     }
//!
//!     fn issue(_: &Settings, _: &Grant) -> Result<Issued, Error> {
//!         Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Each capability is a module: [`aws`], [`http`], [`tokens`], [`assertions`], [`secrets`],
//! [`random`], [`kept`], [`ecr_repositories`], [`log`]. A component imports only the capabilities
//! that it calls. The
//! operator sees that list and allows it. The host checks every call against the registry's
//! *ceiling*: the most that the operator's settings let this registry ask for. With [`aws`] it also
//! checks that a credential is within the grant. It cannot judge what a registry returned over
//! [`http`]: there it checks where requests and secrets go, and answers say `enforced_by:
//! provider`.
//!
//! On every target except wasm the capabilities are in-memory doubles (see [`testing`]), so that a
//! provider's logic runs under plain `cargo test`.
//!
//! The generated WIT bindings stay behind this crate. A new function in `wit/` needs a line in
//! `host/wasm.rs`, a line in `testing/double.rs`, and a documented wrapper in the capability's
//! module.

#![warn(missing_docs)]

pub mod assertions;
pub mod aws;
pub mod ecr_repositories;
mod error;
mod export;
mod grant;
mod host;
pub mod http;
mod issued;
pub mod kept;
mod leftovers;
mod location;
pub mod log;
mod needs;
mod provider;
pub mod random;
mod repositories;
mod revocation;
pub mod secrets;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod time;
pub mod tokens;

pub use error::Error;
pub use grant::{Actions, Grant};
pub use issued::{Credential, Issued, Login};
pub use leftovers::{Leftover, Leftovers};
pub use location::Location;
pub use needs::Needs;
pub use provider::{Problem, Provider, Scope};
pub use repositories::{Ownership, Repositories, Repository};
pub use revocation::{Revocation, remembered_id};
pub use secrets::{PrivateKeyName, Secret, SecretName};

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use host::wasm::{Exported, bindings};

/// Exports a [`Provider`] from the component. Use it once, at the top level of the crate.
///
/// `export_provider!(Example, repositories)` also exports its [`Repositories`],
/// `export_provider!(Example, revocation)` its [`Revocation`], and
/// `export_provider!(Example, revocation, leftovers)` its [`Leftovers`], too. A provider may have
/// all of them.
///
/// On a native target there is no component, and it only checks that the type is a provider.
#[cfg(target_arch = "wasm32")]
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        type Exported = $crate::Exported<$provider>;
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
        $crate::bindings::endpoints::export_endpoints!(
            Exported with_types_in $crate::bindings::endpoints
        );
    };
    ($provider:ty $(, $optional:ident)+) => {
        $crate::export_provider!($provider);
        $($crate::export_provider!(@$optional);)+
    };
    (@repositories) => {
        $crate::bindings::repositories::export_repositories!(
            Exported with_types_in $crate::bindings::repositories
        );
    };
    (@revocation) => {
        $crate::bindings::revocation::export_revocation!(
            Exported with_types_in $crate::bindings::revocation
        );
    };
    (@leftovers) => {
        $crate::bindings::leftovers::export_leftovers!(
            Exported with_types_in $crate::bindings::leftovers
        );
    };
}

/// Exports a [`Provider`] from the component. Use it once, at the top level of the crate.
///
/// `export_provider!(Example, repositories)` also exports its [`Repositories`],
/// `export_provider!(Example, revocation)` its [`Revocation`], and
/// `export_provider!(Example, revocation, leftovers)` its [`Leftovers`], too. A provider may have
/// all of them.
///
/// On a native target there is no component, and it only checks that the type is a provider.
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        const _: &str = <$provider as $crate::Provider>::NAME;
    };
    ($provider:ty $(, $optional:ident)+) => {
        $crate::export_provider!($provider);
        $($crate::export_provider!(@$optional $provider);)+
    };
    (@repositories $provider:ty) => {
        const _: fn() = || {
            fn manages<P: $crate::Repositories>() {}
            manages::<$provider>();
        };
    };
    (@revocation $provider:ty) => {
        const _: fn() = || {
            fn revokes<P: $crate::Revocation>() {}
            revokes::<$provider>();
        };
    };
    (@leftovers $provider:ty) => {
        const _: fn() = || {
            fn finds<P: $crate::Leftovers>() {}
            finds::<$provider>();
        };
    };
}
