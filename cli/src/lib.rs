//! What `rise-registry` and `docker-credential-rise` have in common: they know the broker's HTTP API, and nothing else of it.
//!
//! **Invariant:** no secret reaches a stream but where it was asked for: [`rise_secret::Secret`] cannot be printed, and what others
//! wrote (the broker, a proxy) is shown in [`failure::shown`]'s form only.
//! **Invariant:** every process ends within ten seconds, whatever the broker does: [`deadline`].

pub mod app;
pub mod broker;
pub mod cache;
pub mod claims;
pub mod command;
pub mod credentials;
pub mod deadline;
pub mod docker;
#[cfg(test)]
mod documentation;
pub mod environment;
pub mod failure;
pub mod files;
pub mod helper;
pub mod names;
pub mod oidc;
pub mod process;
pub mod settings;
pub mod terminal;
pub mod token;
pub mod transport;

// The path by which the modules of this crate know it.
use rise_secret as secret;
