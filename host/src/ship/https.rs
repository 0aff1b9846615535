//! The target `https`: batches of records are posted to a URL, one JSON line each.

use std::time::Duration;

use async_trait::async_trait;

use super::{Batch, BatchLimits, ShipError, Target};
use crate::posting::Poster;

const RECORDS: usize = 1000;
const BYTES: usize = 1 << 20;
const GATHER: Duration = Duration::from_millis(500);

pub(super) struct Https {
    pub(super) poster: Poster,
}

#[async_trait]
impl Target for Https {
    fn name(&self) -> &'static str {
        "https"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { records: RECORDS, bytes: BYTES, gather: GATHER }
    }

    async fn send(&mut self, batch: &Batch) -> Result<usize, ShipError> {
        let lines = batch.records.iter().flat_map(|record| [record.line.as_str(), "\n"]);
        let body: String = lines.collect();
        let name = batch.name();
        self.poster.post("application/x-ndjson", name.as_deref(), body.into_bytes()).await?;
        Ok(0)
    }
}
