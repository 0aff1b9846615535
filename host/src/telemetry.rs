//! Logs to standard error, as JSON or as text for people, and [`Metrics`].
//!
//! `lines` writes log lines, `json` formats them, `step` measures the steps of a request, `metrics`
//! counts, `traces` makes spans, `refusals` sums repeated lines, `clock_steps` watches the clock.
//! Lines of a request carry its `request_id`, from the span that `http` opens.
//!
//! **Invariant:** no level, however low, makes a library write a secret.

mod clock_steps;
mod json;
mod lines;
pub(crate) mod metrics;
pub mod process;
pub(crate) mod prometheus;
mod refusals;
mod settings;
mod step;
pub(crate) mod traces;

pub use clock_steps::ClockSteps;
pub use lines::LostLines;
pub(crate) use lines::{Flushing, Lines};
pub use metrics::Metrics;
pub(crate) use metrics::actions_label;
pub use refusals::Refusals;
pub use settings::LogConfig;
pub(crate) use settings::LogFormat;
pub(crate) use step::Step;
pub(crate) use traces::RequestTrace;
pub use traces::{TraceCounts, TraceSettings, Traces};

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use self::json::FlatJson;

/// Starts logging. Each line is written before the program continues.
pub(crate) fn start(config: &LogConfig) {
    start_on(config, std::io::stderr);
}

/// Starts logging in a thread of its own, so that no request waits for the log. Dropping the
/// returned value writes the remaining lines.
pub(crate) fn start_in_background(config: &LogConfig) -> Flushing {
    let lines = Lines::start();
    start_on(config, lines.clone());
    lines.flushing()
}

fn start_on(config: &LogConfig, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    // `config` has checked it.
    let filter = EnvFilter::builder().parse_lossy(&config.level).and(filter_fn(is_free_of_secrets));
    let layer = match config.format {
        LogFormat::Json => FlatJson::new(writer).boxed(),
        LogFormat::Text => {
            fmt::layer().with_writer(writer).with_ansi(std::io::stderr().is_terminal()).boxed()
        }
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Other crates trace whole messages: the AWS SDK would log ECR's password.
fn is_free_of_secrets(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::DEBUG || event.target().starts_with("rise_")
}
