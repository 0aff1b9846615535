//! What the broker says of itself: logs to standard error, as JSON or as text for people, and [`Metrics`].
//!
//! `json` is the form of a log line, `step` the parts of a request that are measured, `metrics` what is counted. Lines that
//! belong to a request carry its `request_id`, from the span that `http` opens.
//!
//! **Invariant:** no level, however low, makes a library write a secret.

mod json;
mod lines;
pub mod metrics;
pub mod process;
mod settings;
mod step;

pub use lines::{Flushing, Lines};
pub use metrics::{Metrics, actions_label};
pub use settings::{LogConfig, LogFormat};
pub use step::Step;

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Starts logging, each line written before the program goes on.
pub fn start(config: &LogConfig) {
    start_on(config, std::io::stderr);
}

/// Starts logging by a thread of its own: no request waits for the log. Dropping what is returned writes what is left.
pub fn start_beside(config: &LogConfig) -> Flushing {
    let lines = Lines::start();
    start_on(config, lines.clone());
    lines.flushing()
}

fn start_on(config: &LogConfig, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    // `config` has checked it.
    let filter = EnvFilter::builder().parse_lossy(&config.level).and(filter_fn(is_fit_to_print));
    let layer = fmt::layer().with_writer(writer);
    let layer = match config.format {
        LogFormat::Json => layer.fmt_fields(JsonFields::new()).event_format(json::Flat).boxed(),
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Traces of other people's crates hold whole messages: the AWS SDK's has ECR's password.
fn is_fit_to_print(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::DEBUG || event.target().starts_with("rise_")
}
