//! The registry credential broker. `main.rs` starts it; the tests drive it in process.
//!
//! In the order in which a request passes: `http` → `identity` → `rules` → `audit` → `issue` → `provider` → `capability`.

pub mod app;
pub mod command;
pub mod config;
pub mod findings;
pub mod process;
pub mod reload;
pub mod state;
pub mod telemetry;
pub mod version;

pub mod audit;
pub mod capability;
pub mod http;
pub mod identity;
pub mod issue;
pub mod limits;
pub mod provider;
pub mod registries;
pub mod rules;

pub mod domain;
mod flight;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod keys;
mod reachable;
pub mod wit;
