//! Formats a log line as one flat JSON object: the fields of the event, and those of its request.
//!
//! By hand, because the format of `tracing_subscriber` nests the request's fields in a list of
//! spans. There, neither `grep` nor the index of a log store finds `request_id` in the same place
//! on every line.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serializer as _;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

pub(super) struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        // From the outermost span to the event: the innermost value of a field counts.
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(text) = span.extensions().get::<FormattedFields<JsonFields>>() {
                let of_span: BTreeMap<String, Value> =
                    serde_json::from_str(&text.fields).unwrap_or_default();
                fields.0.extend(of_span);
            }
        }
        event.record(&mut fields);
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let metadata = event.metadata();
        let first = [
            ("timestamp", Value::from(timestamp)),
            ("level", metadata.level().as_str().into()),
            ("message", fields.0.remove("message").unwrap_or_default()),
            ("target", metadata.target().into()),
        ];
        let rest =
            fields.0.iter().filter(|(name, _)| first.iter().all(|(first, _)| *first != **name));
        let all = first.iter().map(|(name, value)| (*name, value));
        let all = all.chain(rest.map(|(name, value)| (name.as_str(), value)));
        let mut line = Vec::with_capacity(512);
        serde_json::Serializer::new(&mut line).collect_map(all).map_err(|_| fmt::Error)?;
        writeln!(writer, "{}", String::from_utf8_lossy(&line))
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_of_its_request_and_nothing_can_break_it() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(Flat)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let request =
                tracing::info_span!("request", request_id = "1", registry = tracing::field::Empty);
            request.record("registry", "prod");
            request.in_scope(|| {
                let step = tracing::info_span!("step", step = "rules");
                step.in_scope(|| tracing::info!(number = 7, level = "forged", "a\n{{\"b"));
            });
            tracing::warn!("outside");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [inside, outside] = lines.as_slice() else { panic!("{text}") };
        for (name, value) in [
            ("request_id", "1"),
            ("registry", "prod"),
            ("step", "rules"),
            ("level", "INFO"),
            ("message", "a\n{\"b"),
        ] {
            assert_eq!(inside[name], value, "{name}");
        }
        assert_eq!(inside["number"], 7);
        assert_eq!((outside["level"].as_str(), outside.get("request_id")), (Some("WARN"), None));
    }
}
