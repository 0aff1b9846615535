//! How much memory one call may use: the sum of the guest's memories and of what the host keeps for
//! the guest.

use wasmtime::ResourceLimiter;

use crate::config::CallLimits;

/// The parts that one component may have. The pool of instances reserves this much for every call,
/// or a few calls of one provider would empty the pool for the others. componentize-py links 38
/// modules into one component.
pub(crate) const CORE_INSTANCES: u32 = 64;
pub(crate) const MEMORIES: u32 = 2;
pub(crate) const TABLES: u32 = 8;

/// The memory that one call has left. wasmtime's own limiter counts each memory by itself, and a
/// guest may have several.
pub(crate) struct Memory {
    bytes_left: usize,
    table_elements: usize,
    /// Bytes and table elements of the last growth. They are given back if wasmtime rejects the
    /// growth for another reason.
    last: (usize, usize),
    /// The limit that a growth exceeded. Most guests abort then, which looks like any other trap.
    pub(crate) exceeded: Option<&'static str>,
}

impl Memory {
    pub(crate) fn new(limits: &CallLimits) -> Self {
        Self {
            bytes_left: limits.memory,
            table_elements: limits.table_elements,
            last: (0, 0),
            exceeded: None,
        }
    }

    /// Bytes that are still free.
    pub(crate) fn left(&self) -> usize {
        self.bytes_left
    }

    /// Counts `bytes` that the host keeps for the guest. Returns `false` if fewer are free.
    pub(crate) fn charge(&mut self, bytes: usize) -> bool {
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

    /// wasmtime rejected the growth, for example because of the guest's own maximum.
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
