//! What the three AWS peers have in common: who calls, and what was asked.

pub(crate) mod caller;
pub(crate) mod request;
