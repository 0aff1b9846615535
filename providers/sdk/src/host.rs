//! The other side of the capabilities: the host in a component, and a double everywhere else.
//!
//! Both have the same functions in this crate's own types, and the public modules call only these.

#[cfg(target_arch = "wasm32")]
pub(crate) mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::double::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;
