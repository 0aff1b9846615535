//! How much memory one call may use, over all of its memories together.

use wasmtime::ResourceLimiter;

use super::engine::{CORE_INSTANCES, MEMORIES, TABLES};
use crate::config::Limits;

/// wasmtime's own limiter counts each memory by itself; a guest may have several.
pub struct Memory {
    bytes_left: usize,
    table_elements: usize,
    /// What the last growth took, to be given back if it fails for another reason.
    last: (usize, usize),
    /// A guest whose growth is refused mostly aborts, which looks like any other trap.
    pub exceeded: Option<&'static str>,
}

impl Memory {
    pub fn new(limits: &Limits) -> Self {
        Self {
            bytes_left: limits.memory,
            table_elements: limits.table_elements,
            last: (0, 0),
            exceeded: None,
        }
    }
}

impl Memory {
    /// Bytes that may still be had.
    pub fn left(&self) -> usize {
        self.bytes_left
    }

    /// Takes `bytes` that the host holds for a guest. `false`: there are not that many left.
    pub fn charge(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or(self.bytes_left);
        left.is_some()
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = desired.saturating_sub(current);
        if !self.charge(bytes) {
            self.exceeded = Some("memory");
            return Ok(false);
        }
        self.last = (bytes, 0);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current);
        let Some(left) = self.table_elements.checked_sub(elements) else {
            self.exceeded = Some("table elements");
            return Ok(false);
        };
        self.table_elements = left;
        self.last = (0, elements);
        Ok(true)
    }

    /// Beyond the guest's own maximum, say. What it asked for is not taken.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.bytes_left += std::mem::take(&mut self.last).0;
        Ok(())
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_elements += std::mem::take(&mut self.last).1;
        Ok(())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}
