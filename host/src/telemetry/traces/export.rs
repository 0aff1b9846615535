//! Sends spans to a collector, by OTLP over HTTP in its binary form.
//!
//! **Invariant:** no request waits for the collector. Spans that find the queue full are lost, and
//! counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::domain::Deadline;
use crate::posting::{PostError, PostSettings, Poster};

/// How many spans wait at most. A request makes about ten.
const QUEUE: usize = 8192;
/// How many are sent at once.
const BATCH: usize = 512;
const GATHER: Duration = Duration::from_secs(1);
/// A batch that fails is sent again after these times, and then it is lost.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How many spans were sent and lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceCounts {
    pub sent: u64,
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
}

/// Takes the spans that have ended.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
}

/// The task that sends spans.
pub(super) struct Exporting {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
    counts: Arc<Counts>,
}

struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    poster: Poster,
    resource: ResourceAttributesWithSchema,
    counts: Arc<Counts>,
    is_failing: bool,
}

pub(super) fn start(target: PostSettings, resource: &Resource) -> (Queue, Exporting) {
    let (sender, spans) = mpsc::channel(QUEUE);
    let (stop, stopping) = watch::channel(false);
    let counts = Arc::<Counts>::default();
    let exporter = Exporter {
        spans,
        poster: Poster::new(target),
        resource: resource.into(),
        counts: Arc::clone(&counts),
        is_failing: false,
    };
    let task = Mutex::new(Some(tokio::spawn(exporter.run(stopping))));
    let queue = Queue { spans: sender, counts: Arc::clone(&counts) };
    (queue, Exporting { stop, task, counts })
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporting {
    pub(super) fn counts(&self) -> TraceCounts {
        let Counts { sent, lost } = &*self.counts;
        TraceCounts { sent: sent.load(Ordering::Relaxed), lost: lost.load(Ordering::Relaxed) }
    }

    /// Sends what is in the queue, but not past `deadline`.
    pub(super) async fn finish(&self, deadline: Deadline) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout_at(deadline.instant().into(), &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

impl Exporter {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut batch = Vec::new();
        loop {
            let first = tokio::select! {
                first = self.spans.recv() => first,
                _ = stopping.wait_for(|is_stopping| *is_stopping), if !self.spans.is_closed() => {
                    self.spans.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            batch.push(first);
            self.gather(&mut batch).await;
            let is_stopping = *stopping.borrow();
            self.deliver(std::mem::take(&mut batch), is_stopping).await;
        }
    }

    /// Waits a moment for more, so that a request is not sent for each span.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) {
        let more = async {
            while batch.len() < BATCH && self.spans.recv_many(batch, BATCH - batch.len()).await > 0
            {
            }
        };
        let _ = tokio::time::timeout(GATHER, more).await;
    }

    async fn deliver(&mut self, batch: Vec<SpanData>, is_stopping: bool) {
        let count = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut pauses = AGAIN.iter().filter(|_| !is_stopping);
        loop {
            let error = match self.send(body.clone()).await {
                Ok(refused) => {
                    let refused = refused.min(count);
                    self.counts.sent.fetch_add(count - refused, Ordering::Relaxed);
                    self.counts.lost.fetch_add(refused, Ordering::Relaxed);
                    return;
                }
                Err(error) => error,
            };
            if !self.is_failing {
                self.is_failing = true;
                let collector = self.poster.authority();
                tracing::warn!(collector, reason = error.reason, %error, "traces are not sent");
            }
            let is_final = error.reason == "rejected" || error.reason == "denied";
            match pauses.next().filter(|_| !is_final) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => break,
            }
        }
        self.counts.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns how many spans the collector refused.
    async fn send(&mut self, body: Vec<u8>) -> Result<u64, PostError> {
        let answer = self.poster.post("application/x-protobuf", None, body).await?;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(collector = self.poster.authority(), "traces are sent again");
        }
        let answer = ExportTraceServiceResponse::decode(&*answer).unwrap_or_default();
        let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or(0))
    }
}
