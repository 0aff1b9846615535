//! How the log is written. What settings files may say of it: `config/file.rs`.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A level, or the directives of `tracing_subscriber`.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Json,
    Text,
}
