//! What a request leaves in the log and in the metrics: the span that its log lines share, and its
//! count and time.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use ulid::Ulid;

use crate::domain::{ClientAddress, Subject};
use crate::rules::AccessRequest;
use crate::telemetry::{Metrics, RequestTrace, traces};

/// Counted when dropped, because a caller that hangs up ends the work on its request.
pub(super) struct Observed {
    metrics: Metrics,
    id: Ulid,
    trace: RequestTrace,
    route: Option<MatchedPath>,
    method: &'static str,
    /// `None`: the caller hung up before there was one.
    pub status: Option<u16>,
    /// `ok`, `failed` or the problem's slug.
    pub outcome: &'static str,
    started: Instant,
}

impl Observed {
    pub(super) fn new(metrics: &Metrics, id: Ulid, request: &Request) -> Self {
        let trace = request.extensions().get::<RequestTrace>().cloned().unwrap_or_default();
        Self {
            metrics: metrics.clone(),
            id,
            trace,
            status: None,
            route: request.extensions().get().cloned(),
            method: method(request.method()),
            outcome: "caller-gone",
            started: Instant::now(),
        }
    }

    /// The outermost span of a request. Its level is that of errors, so that with every log level a
    /// line names its request.
    ///
    /// Later steps fill in the empty fields. Every line has them from then on.
    pub(super) fn span(&self, client: ClientAddress) -> Span {
        let span = tracing::error_span!(
            "request",
            request_id = %self.id,
            trace_id = Empty,
            client = %client.ip(),
            method = self.method,
            route = self.route(),
            issuer = Empty,
            sub = Empty,
            registry = Empty,
            project = Empty,
            actions = Empty,
            provider = Empty,
            digest = Empty,
            because = Empty,
        );
        if let Some(trace_id) = self.trace.id() {
            span.record("trace_id", trace_id);
        }
        span
    }

    /// Does the work on the request, with its log lines and spans.
    pub(super) async fn follow<T>(&self, span: Span, work: impl Future<Output = T>) -> T {
        self.trace.follow(work.instrument(span)).await
    }

    /// The route as it is registered, because a path could be anything.
    fn route(&self) -> &str {
        self.route.as_ref().map_or("none", MatchedPath::as_str)
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let (trace_id, elapsed) = (self.trace.id(), self.started.elapsed());
        self.metrics.request(self.route(), self.method, self.outcome, elapsed, trace_id);
        self.trace.end(self.id, self.status, self.outcome);
    }
}

/// A closed set, because a method may be any word.
pub(super) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// From here on the log lines of this request name its subject.
pub(super) fn caller(subject: &Subject) {
    let span = Span::current();
    tracing::record_all!(span, issuer = subject.issuer, sub = subject.sub);
    traces::caller(&subject.issuer, &subject.sub);
}

/// From here on the log lines of this request name its registry and project.
pub(super) fn target(request: &AccessRequest) {
    let span = Span::current();
    let (registry, project) = (request.registry.as_str(), request.project.as_str());
    tracing::record_all!(span, registry = registry, project = project);
    traces::about(&[("rise.registry", registry), ("rise.project", project)]);
}
