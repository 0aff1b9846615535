//! The steps of a request. Each step is a time in the metrics and a span of the trace.

use std::time::Instant;

use tracing::{Instrument, Span, info_span};

use super::{Metrics, traces};

/// In the order in which a request takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Identity,
    /// Finds the registry and the project.
    Target,
    Rules,
    AuditIntent,
    Provider,
    AuditOutcome,
    AuditDenial,
}

impl Step {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Target => "target",
            Self::Rules => "rules",
            Self::AuditIntent => "audit intent",
            Self::Provider => "provider",
            Self::AuditOutcome => "audit outcome",
            Self::AuditDenial => "audit denial",
        }
    }

    /// Log lines of a provider call name their step. The other steps log nothing of their own, and
    /// a span would cost more than the shortest of them.
    fn span(self) -> Span {
        if self == Self::Provider { info_span!("step", step = self.as_str()) } else { Span::none() }
    }

    /// Runs `work` as this step.
    pub(crate) async fn measure<T>(self, metrics: &Metrics, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = traces::step(self.as_str(), work.instrument(self.span())).await;
        metrics.step(self.as_str(), started.elapsed());
        done
    }

    /// Runs `work` that does not wait as this step.
    pub(crate) fn measure_now<T>(self, metrics: &Metrics, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        metrics.step(self.as_str(), started.elapsed());
        traces::stepped(self.as_str(), started);
        done
    }
}
