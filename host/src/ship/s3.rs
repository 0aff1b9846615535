//! The target `s3`: objects in a bucket, of AWS or of any store that speaks its protocol.
//!
//! `request` signs and sends requests, and `read` is for `audit verify`. An object holds records of
//! one segment in the order of their chain, as they are in the log. Its name has the chain, the
//! number and the hash of its first record: sent again, it is the same object with the same records
//! or more. A broker that was restored from a snapshot writes other records under numbers that are
//! there, and so other objects.

mod read;
mod request;

use async_trait::async_trait;
use jiff::SignedDuration;
use reqwest::Method;

use super::settings::S3Settings;
use super::{Batch, BatchLimits, ShipError, Target};
use crate::domain::Clock;
use request::Bucket;

const KIND: &str = "application/x-ndjson";
/// Digits of a hash in a name.
const HASH: usize = 12;

/// Sends records to a bucket, and reads them there.
pub struct S3 {
    settings: S3Settings,
    clock: Clock,
    /// It is made anew after a failure, because keys and `ca_file` may have changed.
    bucket: Option<Bucket>,
}

impl S3 {
    pub fn new(settings: S3Settings, clock: Clock) -> Self {
        Self { settings, clock, bucket: None }
    }

    /// The headers of an object.
    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("content-type", KIND.to_owned())];
        if let Some(lock) = &self.settings.lock {
            let until = self.clock.now() + SignedDuration::from_hours(24 * i64::from(lock.days));
            headers.push(("x-amz-object-lock-mode", lock.mode.to_owned()));
            headers.push((
                "x-amz-object-lock-retain-until-date",
                until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ));
        }
        headers
    }
}

#[async_trait]
impl Target for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn limits(&self) -> BatchLimits {
        let S3Settings { part_bytes, part_after, .. } = self.settings;
        BatchLimits { records: usize::MAX, bytes: part_bytes, gather: part_after }
    }

    async fn send(&mut self, batch: &Batch) -> Result<usize, ShipError> {
        let Some(first) = batch.records.first() else { return Ok(0) };
        let bucket = match self.bucket.take() {
            Some(bucket) => bucket,
            None => Bucket::open(&self.settings, self.clock.clone()).await?,
        };
        let hash = first.hash().and_then(|hash| hash.get(..HASH)).unwrap_or("none");
        let (prefix, chain) = (&self.settings.prefix, first.chain);
        let name = format!("{prefix}{chain}/{:020}-{hash}.jsonl", first.seq);
        let lines = batch.records.iter().flat_map(|record| [record.line.as_str(), "\n"]);
        let body = lines.collect::<String>().into_bytes();
        bucket.send(Method::PUT, &name, &[], &self.headers(), body).await?;
        self.bucket = Some(bucket);
        Ok(0)
    }
}
