//! The library of `rise-registry` and `docker-credential-rise`. It knows the broker's HTTP API and
//! nothing else of the broker.
//!
//! **Invariant:** a secret is written only where the caller asked for it. [`rise_secret::Secret`]
//! cannot be printed, and text from others (the broker, a proxy) passes through [`failure::shown`].
//! **Invariant:** every run ends when its wait is over, and after ten seconds without one, whatever
//! the broker does: [`patience`].

mod allowed;
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
mod give_back;
pub mod helper;
mod names;
mod oidc;
mod patience;
pub mod process;
mod registries;
mod settings;
mod terminal;
mod token;
mod transport;
