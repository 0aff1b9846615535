//! The caller and the recorded request, which the three AWS peers have in common.

pub(crate) mod caller;
pub(crate) mod request;
