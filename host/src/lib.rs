//! The registry credential broker. `main.rs` starts it; tests run it in process.
//!
//! A request passes `http`, `identity`, `rules`, `issue`, `provider` and `capability` in this
//! order.

pub mod broker;
pub mod command;
pub mod config;
mod control;
mod findings;
pub mod generation;
pub mod hardening;
pub mod process;
pub mod reload;
pub mod state;
mod survivors;
pub mod telemetry;
mod user;
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
pub mod ship;

pub mod domain;
mod files;
mod flight;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod keys;
mod names;
mod posting;
mod reachable;
pub mod shared;
pub mod signing;
