//! The tools of a provider's author: `rise-provider new`, `inspect`, `run` and `check`.
//!
//! **Invariant:** a provider is loaded, linked, limited and verified by the broker's own library,
//! so that a provider that behaves here behaves in a broker that serves.

pub mod command;
pub mod conformance;

mod grant;
mod probe;
mod settings;

use rise_broker::capability::wit::rise::registry as contract;
