//! What `rise-registry` and `docker-credential-rise` have in common: they know the broker's HTTP API, and nothing else of it.
//!
//! **Invariant:** no secret reaches a stream but where it was asked for: [`rise_secret::Secret`] cannot be printed, and what others
//! wrote (the broker, a proxy) is shown in [`failure::shown`]'s form only.
//! **Invariant:** every process ends within ten seconds, whatever the broker does: [`deadline`].

mod app;
mod broker;
mod cache;
mod claims;
pub mod command;
mod credentials;
mod deadline;
mod docker;
#[cfg(test)]
mod documentation;
mod environment;
mod failure;
mod files;
pub mod helper;
mod names;
mod oidc;
pub mod process;
mod settings;
mod terminal;
mod token;
mod transport;

// The path by which the modules of this crate know it.
use rise_secret as secret;
