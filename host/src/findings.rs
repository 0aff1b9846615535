//! Problems that the last reload found in settings and providers, for readiness, the list of
//! providers and the log.
//!
//! **Invariant:** each problem is logged and counted once, until it is gone, and logged again when
//! somebody asks by SIGHUP.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use serde::Serialize;

use crate::provider::RejectedFile;
use crate::telemetry::Metrics;

/// What operators must know while the broker serves.
#[derive(Default)]
pub struct Findings {
    /// The problems that the last reload found.
    last: ArcSwap<Found>,
    /// `None` without TLS.
    certificate: ArcSwapOption<CertificateState>,
}

/// The state of the listener's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateState {
    pub expires_at: Option<Timestamp>,
    /// What is wrong with it, or with the files that would replace it.
    pub problem: Option<String>,
    pub days_left: Option<i64>,
}

/// The problems of one reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Files that were not loaded. A provider that was loaded from such a file before stays in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<RefusedFile>,
    /// Files that were deleted while registries use their providers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<String>,
    /// Why the settings in the files are not in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// The reload under way waits for a disk, or for something else outside the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Changed settings that take effect after a restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedFile {
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The step of loading that failed.
    pub stage: &'static str,
    pub problem: String,
}

impl From<&RejectedFile> for RefusedFile {
    fn from(refused: &RejectedFile) -> Self {
        Self {
            file: refused.file.display().to_string(),
            sha256: refused.digest.as_ref().map(ToString::to_string),
            stage: refused.error.stage(),
            problem: refused.error.to_string(),
        }
    }
}

impl Found {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the next start would find fault with what is on disk.
    pub fn was_rejected(&self) -> bool {
        let Self { providers, missing_files, settings, waiting, needs_restart: _ } = self;
        !(providers.is_empty() && missing_files.is_empty() && settings.is_empty())
            || waiting.is_some()
    }
}

impl Findings {
    pub fn last(&self) -> Arc<Found> {
        self.last.load_full()
    }

    pub fn certificate(&self) -> Option<Arc<CertificateState>> {
        self.certificate.load_full()
    }

    pub fn report_certificate(&self, state: CertificateState) {
        self.certificate.store(Some(Arc::new(state)));
    }

    /// Adds that the reload under way has taken `so_far`.
    pub fn report_waiting(&self, folders: &BTreeSet<PathBuf>, so_far: Duration, metrics: &Metrics) {
        let before = self.last();
        let folders: Vec<_> = folders.iter().map(|path| path.display().to_string()).collect();
        let (folders, seconds) = (folders.join("`, `"), so_far.as_secs());
        let waiting = format!(
            "a reload has been under way for {seconds} s: something in `{folders}`, or a file that \
             the settings name, cannot be read; check the disk or network file system"
        );
        if before.waiting.is_none() {
            tracing::error!(waiting, "a reload is stuck; the settings of before stay in use");
            metrics.reloaded(false);
        }
        self.last.store(Arc::new(Found { waiting: Some(waiting), ..Found::clone(&before) }));
    }

    /// The reload under way is over. It has reported nothing if nothing has changed.
    pub fn end_waiting(&self) {
        let last = self.last();
        if last.waiting.is_some() {
            tracing::info!("the reload is no longer stuck");
            self.last.store(Arc::new(Found { waiting: None, ..Found::clone(&last) }));
        }
    }

    /// Logs and counts the new problems, and remembers all of them. If somebody `asked`, every
    /// problem is logged again: a SIGHUP without an answer would look like success.
    pub fn report(&self, found: Found, asked: bool, metrics: &Metrics) {
        let last = self.last();
        let nothing = Found::default();
        let before = if asked { &nothing } else { &*last };
        for file in found.providers.iter().filter(|file| !before.providers.contains(file)) {
            let RefusedFile { file, sha256, stage, problem } = file;
            if !last.providers.iter().any(|known| known.file == *file && known.problem == *problem)
            {
                metrics.provider_load_failed(stage);
            }
            tracing::error!(
                file,
                digest = sha256,
                stage,
                problem,
                "a provider was not loaded; the one loaded before stays in use"
            );
        }
        for file in found.missing_files.iter().filter(|file| !before.missing_files.contains(file)) {
            tracing::error!(
                file,
                "the file of a provider in use is gone; the provider stays in use until the next \
                 start, which will fail"
            );
        }
        for problem in found.settings.iter().filter(|problem| !before.settings.contains(problem)) {
            tracing::error!(problem, "the new settings are not in use; the old ones stay");
        }
        for setting in
            found.needs_restart.iter().filter(|setting| !before.needs_restart.contains(setting))
        {
            tracing::warn!(setting, "a changed setting takes effect after a restart");
        }
        if !last.is_nothing() && found.is_nothing() {
            tracing::info!(
                "the problems with settings and providers are solved: the broker uses the files \
                 as they are now"
            );
        }
        self.last.store(Arc::new(found));
    }
}
