//! Writes log lines as flat JSON objects: the fields of the event, and those of its request.
//!
//! By hand, because the format of `tracing_subscriber` nests the request's fields in a list of
//! spans. There, neither `grep` nor the index of a log store finds `request_id` in the same place
//! on every line. Its layer also keeps the fields of a span as text and parses it for each new
//! field and each line, which was the largest cost of a request.

use std::fmt;
use std::io::Write as _;

use serde::Serializer as _;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

/// Of a line with the fields of a request.
const USUAL_LENGTH: usize = 1024;
/// The first fields of each line. No other field may have such a name.
const FIRST: [&str; 4] = ["timestamp", "level", "message", "target"];

/// Writes each event as one line.
pub(super) struct FlatJson<W> {
    writer: W,
}

impl<W> FlatJson<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<S, W> Layer<S> for FlatJson<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                of_span.0.iter().for_each(|(name, value)| fields.set(name, value.clone()));
            }
        }
        event.record(&mut fields);
        if let Ok(line) = fields.line(event.metadata()) {
            // There is nowhere to report that the log cannot be written.
            let _ = self.writer.make_writer().write_all(&line);
        }
    }
}

/// The fields of a span, or of an event and its spans. The innermost value of a field counts.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    fn line(mut self, metadata: &Metadata<'_>) -> Result<Vec<u8>, fmt::Error> {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let message = self.0.iter().position(|(name, _)| *name == "message");
        let message = message.map(|index| self.0.swap_remove(index).1).unwrap_or_default();
        let level = metadata.level().as_str().into();
        let first = [timestamp.into(), level, message, metadata.target().into()];
        let others = self.0.iter().filter(|(name, _)| !FIRST.contains(name));
        let all = FIRST.iter().zip(&first).chain(others.map(|(name, value)| (name, value)));
        let mut line = Vec::with_capacity(USUAL_LENGTH);
        serde_json::Serializer::new(&mut line).collect_map(all).map_err(|_| fmt::Error)?;
        line.push(b'\n');
        Ok(line)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

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
        let layer = FlatJson::new(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
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
