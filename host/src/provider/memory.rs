//! How much memory one call may use, over all of its memories together.

use wasmtime::ResourceLimiter;

use crate::config::Limits;

/// wasmtime's own limiter counts each memory by itself; a guest may have several.
pub struct Memory {
    bytes_left: usize,
    table_elements: usize,
    /// A guest whose growth is refused mostly aborts, which looks like any other trap.
    pub exceeded: Option<&'static str>,
}

impl Memory {
    pub fn new(limits: &Limits) -> Self {
        Self { bytes_left: limits.memory, table_elements: limits.table_elements, exceeded: None }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let Some(left) = self.bytes_left.checked_sub(desired.saturating_sub(current)) else {
            self.exceeded = Some("memory");
            return Ok(false);
        };
        self.bytes_left = left;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let Some(left) = self.table_elements.checked_sub(desired.saturating_sub(current)) else {
            self.exceeded = Some("table elements");
            return Ok(false);
        };
        self.table_elements = left;
        Ok(true)
    }

    fn instances(&self) -> usize {
        32
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        2
    }
}
