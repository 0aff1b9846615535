//! The target `otlp`: records as logs of OpenTelemetry, by OTLP over HTTP in its JSON form.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::record::ShippedRecord;
use super::{Batch, BatchLimits, ShipError, Target};
use crate::posting::{self, Poster};

const RECORDS: usize = 500;
const BYTES: usize = 1 << 20;
const GATHER: Duration = Duration::from_millis(500);
/// `SEVERITY_NUMBER_INFO`
const INFO: u8 = 9;

pub(super) struct Otlp {
    pub(super) poster: Poster,
}

#[async_trait]
impl Target for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { records: RECORDS, bytes: BYTES, gather: GATHER }
    }

    async fn send(&mut self, batch: &Batch) -> Result<usize, ShipError> {
        let (name, body) = (batch.name(), logs(&batch.records).to_string());
        let answer =
            self.poster.post("application/json", name.as_deref(), body.into_bytes()).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let partial = answer.get("partialSuccess");
        let refused = partial.and_then(|partial| partial.get("rejectedLogRecords"));
        // The JSON form of 64 bits is text.
        let is_text = refused.and_then(Value::as_str).and_then(|text| text.parse().ok());
        let refused = is_text.or_else(|| refused?.as_u64()).unwrap_or(0);
        if refused > 0 {
            let why = partial.and_then(|partial| partial.get("errorMessage"));
            let why = why.and_then(Value::as_str).unwrap_or_default();
            tracing::error!(
                shipped_to = "otlp",
                records = refused,
                why = posting::shown(why.as_bytes()),
                "records were refused for good; they stay in the log on this disk"
            );
        }
        Ok(usize::try_from(refused).unwrap_or(usize::MAX))
    }
}

fn logs(records: &[ShippedRecord]) -> Value {
    let text = |value: &str| json!({ "stringValue": value });
    let resource = json!({
        "attributes": [
            { "key": "service.name", "value": text("rise-broker") },
            { "key": "service.version", "value": text(env!("CARGO_PKG_VERSION")) },
        ]
    });
    let scope = json!({ "name": "rise-broker.audit" });
    let logs: Vec<Value> = records.iter().map(log).collect();
    let scoped = json!({ "scope": scope, "logRecords": logs });
    json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": [scoped] }] })
}

fn log(record: &ShippedRecord) -> Value {
    let found_by = &record.found_by;
    let texts = [
        ("rise.audit.chain", Some(record.chain.to_string())),
        ("rise.audit.seq", Some(record.seq.to_string())),
        ("rise.audit.request_id", found_by.request_id.clone()),
        ("rise.audit.minted_by", found_by.minted_by.clone()),
        ("rise.audit.issuer", found_by.issuer.clone()),
        ("rise.audit.sub", found_by.sub.clone()),
        ("rise.audit.project", found_by.project.clone()),
        ("rise.audit.registry", found_by.registry.clone()),
        ("rise.audit.fingerprint", found_by.fingerprint.clone()),
    ];
    let attributes: Vec<Value> = texts
        .into_iter()
        .filter_map(|(key, value)| Some(json!({ "key": key, "value": { "stringValue": value? } })))
        .collect();
    let time = record.time.as_nanosecond().to_string();
    json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": INFO,
        "severityText": "INFO",
        "eventName": found_by.event,
        "body": { "stringValue": record.line },
        "attributes": attributes,
    })
}
