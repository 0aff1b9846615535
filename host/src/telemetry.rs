//! Logs: to standard error, as JSON or as text for people.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match config.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    Ok(())
}
