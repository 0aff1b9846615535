//! `[traces]`: where the traces of requests are sent.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Written;
use super::node::Problem;
use super::post::PostFile;
use crate::domain::Secret;
use crate::telemetry::TraceSettings;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TracesFile {
    /// The whole address, such as `https://collector.example.com/v1/traces`.
    pub url: Option<String>,
    /// It is sent as `Authorization: Bearer …`.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub token: Option<Secret>,
    /// A PEM file of the only authorities that may sign the server's certificate.
    pub ca_file: Option<PathBuf>,
    /// The part of requests that are traced, if no trusted proxy has decided it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// Whether spans name the caller: its issuer and `sub`.
    pub subject: bool,
    /// Whether spans say why rules refused a request.
    pub because: bool,
}

impl Default for TracesFile {
    fn default() -> Self {
        let (url, token, ca_file) = (None, None, None);
        Self { url, token, ca_file, ratio: 1.0, subject: false, because: false }
    }
}

/// The settings, if traces are sent.
pub(super) fn config(
    mut file: TracesFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> Option<Arc<TraceSettings>> {
    if !written.has("traces") || problems.iter().any(|problem| problem.key.starts_with("traces")) {
        // A table with a wrong value is read as empty.
        return None;
    }
    let mut wrong = |key: &str, message: String| {
        problems.push(written.problem(&format!("/traces/{key}"), message));
    };
    let Some(url) = file.url.take() else {
        let expected = "missing; name the collector, such as \
                        \"https://collector.example.com/v1/traces\"";
        wrong("url", expected.to_owned());
        return None;
    };
    let TracesFile { token, ca_file, ratio, subject, because, .. } = file;
    let post = PostFile { url, token, ca_file };
    let target = post.settings().map_err(|(key, message)| wrong(key, message)).ok()?;
    Some(Arc::new(TraceSettings { target, ratio, subject, because }))
}
