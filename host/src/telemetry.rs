//! Logs: to standard error, as JSON or as text for people.
//!
//! **Invariant:** no level, however low, makes a library write a secret.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::{LogConfig, LogFormat};

/// Starts logging. A second call changes nothing: tests start many brokers in one process.
pub fn start(config: &LogConfig) {
    // `config` has checked it.
    let filter = EnvFilter::builder().parse_lossy(&config.level).and(filter_fn(is_fit_to_print));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Traces of other people's crates hold whole messages: the AWS SDK's has ECR's password.
fn is_fit_to_print(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::DEBUG || event.target().starts_with("rise_")
}
