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

#[derive(Debug, thiserror::Error)]
#[error(
    "log.level `{level}` is not understood: {cause}; expected a level such as `info`, or directives such as `info,rise_broker=debug`"
)]
pub struct InvalidLevel {
    level: String,
    cause: String,
}

/// Starts logging. A second call changes nothing: tests start many brokers in one process.
pub fn start(config: &LogConfig) -> Result<(), InvalidLevel> {
    let filter = EnvFilter::builder()
        .parse(&config.level)
        .map_err(|error| InvalidLevel { level: config.level.clone(), cause: error.to_string() })?;
    let filter = filter.and(filter_fn(is_fit_to_print));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(())
}

/// Traces of other people's crates hold whole messages: the AWS SDK's has ECR's password.
fn is_fit_to_print(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::DEBUG || event.target().starts_with("rise_")
}
