//! Traces by OpenTelemetry: one span for each request of a caller, and below it one for each step
//! and each call of a cloud. `export` sends them to a collector.
//!
//! The span of a request is part of the [`Context`] of the work on it, as its log lines have
//! `request_id` from a span of `tracing`. A task that goes on without the request is given the
//! context with [`with_trace`]. A request that is not traced has no context, and its steps cost
//! nothing.
//!
//! **Invariant:** nothing of a trace is sent to registries and clouds, and none of it comes from
//! anybody but a trusted proxy.
//! **Invariant:** spans hold what this file names: ids, routes, outcomes, names of the settings and
//! projects. They hold no token and no secret, and who asked and why it was refused only if the
//! settings want it.

mod export;

use std::time::Instant;

use opentelemetry::context::FutureExt;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use ulid::Ulid;

use crate::domain::Deadline;
use crate::posting::PostSettings;
use export::Exporting;
pub use export::TraceCounts;

/// Longer values are cut: they are texts about rules.
const LONGEST: usize = 1024;

/// `[traces]`.
pub struct TraceSettings {
    pub target: PostSettings,
    /// The part of requests that are traced, if no trusted proxy has decided it.
    pub ratio: f64,
    /// Whether spans name the caller.
    pub subject: bool,
    /// Whether spans say why rules refused a request.
    pub because: bool,
}

/// Makes the traces of one process.
pub struct Traces {
    tracer: SdkTracer,
    details: Details,
    exporting: Exporting,
}

/// What spans hold beside the usual.
#[derive(Clone, Copy)]
struct Details {
    subject: bool,
    because: bool,
}

/// The headers `traceparent` and `tracestate` of a trusted proxy.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProxyTrace<'a> {
    pub(crate) parent: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
}

/// The trace of one request, if it has one.
#[derive(Clone, Default)]
pub(crate) struct RequestTrace(Option<Context>);

/// What steps find in the context of their request.
struct Request {
    /// The context with the span of the request itself.
    span: Context,
    tracer: SdkTracer,
    details: Details,
}

impl Traces {
    /// Starts the task that sends spans.
    pub fn start(settings: &TraceSettings) -> Self {
        let (queue, exporting) = export::start(settings.target.clone(), &resource());
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio)));
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource())
            .with_span_processor(queue)
            .build();
        let TraceSettings { subject, because, .. } = *settings;
        let details = Details { subject, because };
        Self { tracer: provider.tracer("rise-broker"), details, exporting }
    }

    /// Begins the span of a request.
    pub(crate) fn begin(
        &self,
        method: &'static str,
        route: &str,
        from: ProxyTrace<'_>,
    ) -> RequestTrace {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &from);
        let name = format!("{method} {route}");
        let builder = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes([
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_owned()),
        ]);
        let span = self.tracer.build_with_context(builder, &parent);
        let span = Context::new().with_span(span);
        if !span.span().span_context().is_sampled() {
            return RequestTrace::default();
        }
        let (tracer, details) = (self.tracer.clone(), self.details);
        RequestTrace(Some(span.with_value(Request { span: span.clone(), tracer, details })))
    }

    /// How many spans were sent and lost.
    pub fn counts(&self) -> TraceCounts {
        self.exporting.counts()
    }

    /// Sends what is left, but not past `deadline`. Later spans are lost.
    pub async fn finish(&self, deadline: Deadline) {
        self.exporting.finish(deadline).await;
    }
}

/// What every span is about.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "rise-broker"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Ulid::generate().to_string()),
        ])
        .build()
}

impl Extractor for ProxyTrace<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.parent,
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl RequestTrace {
    /// The id by which log lines and exemplars name the trace.
    pub(crate) fn id(&self) -> Option<String> {
        let span = self.0.as_ref()?;
        Some(span.span().span_context().trace_id().to_string())
    }

    /// Does `work` within the trace.
    pub(crate) async fn follow<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// Ends the span of the request. `outcome` is `ok`, `failed` or the problem's slug.
    pub(crate) fn end(&self, request_id: Ulid, status: Option<u16>, outcome: &'static str) {
        let Some(context) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("rise.request_id", request_id.to_string()));
        span.set_attribute(KeyValue::new("rise.outcome", outcome));
        if let Some(status) = status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if status.is_some_and(|status| status >= 500) {
            span.set_attribute(KeyValue::new("error.type", outcome));
            span.set_status(Status::error(outcome));
        }
        span.end();
    }
}

/// Names the caller in the span of the current request, if the settings want it.
pub(crate) fn caller(issuer: &str, sub: &str) {
    with_request(|request| {
        if request.details.subject {
            request.set("rise.issuer", issuer);
            request.set("rise.sub", sub);
        }
    });
}

/// Says in the span of the current request why it was refused, if the settings want it.
pub(crate) fn refused(because: &str) {
    with_request(|request| {
        if request.details.because {
            request.set("rise.because", because);
        }
    });
}

/// Names in the span of the current request what it is about.
pub(crate) fn about(facts: &[(&'static str, &str)]) {
    with_request(|request| {
        for (key, value) in facts {
            request.set(key, value);
        }
    });
}

/// Does `work`, which no request waits for, within the trace of the current request.
pub(crate) fn with_trace<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    work.with_current_context()
}

/// Runs `work` as a span below the current one.
pub(crate) async fn step<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let begun = Context::map_current(|current| {
        let tracer = &current.get::<Request>()?.tracer;
        let builder = tracer.span_builder(name);
        Some(current.with_span(tracer.build_with_context(builder, current)))
    });
    match begun {
        // The span ends with the last clone of its context.
        Some(context) => work.with_context(context).await,
        None => work.await,
    }
}

/// Adds a span below the current one for a step that began at `started` and has just ended.
pub(crate) fn stepped(name: &'static str, started: Instant) {
    ended(name, SpanKind::Internal, started, &[]);
}

/// The same for a call of a cloud or registry.
pub(crate) fn called(name: &'static str, started: Instant, facts: &[(&'static str, &str)]) {
    ended(name, SpanKind::Client, started, facts);
}

fn ended(name: &'static str, kind: SpanKind, started: Instant, facts: &[(&'static str, &str)]) {
    let attributes = || facts.iter().map(|(key, value)| KeyValue::new(*key, cut(value)));
    Context::map_current(|current| {
        let Some(Request { tracer, .. }) = current.get() else { return };
        let now = opentelemetry::time::now();
        let began = now.checked_sub(started.elapsed()).unwrap_or(now);
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(began);
        let builder = builder.with_attributes(attributes());
        Context::new().with_span(tracer.build_with_context(builder, current)).span().end();
    });
}

fn with_request(record: impl FnOnce(&Request)) {
    Context::map_current(|current| current.get::<Request>().map(record));
}

impl Request {
    fn set(&self, key: &'static str, value: &str) {
        self.span.span().set_attribute(KeyValue::new(key, cut(value)));
    }
}

fn cut(value: &str) -> String {
    value.get(..value.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
}
