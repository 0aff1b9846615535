//! What is on the other side of a capability: the host in a component, a double anywhere else.
//!
//! Both offer the same functions in this crate's own types, and the public modules call nothing else.

#[cfg(target_arch = "wasm32")]
pub(crate) mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::double::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;
