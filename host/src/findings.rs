//! What the last look at settings and providers found wrong, for readiness, the list of providers, and the log.
//!
//! **Invariant:** each thing is logged and counted when it is first found, and not again while it stays.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::provider::RejectedFile;
use crate::telemetry::Metrics;

/// What was found last.
#[derive(Default)]
pub struct Findings(ArcSwap<Found>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Files that are not served; what was loaded from them before is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<RefusedFile>,
    /// Files that are gone, while registries use what was in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_files: Vec<String>,
    /// Why the settings as they stand are not those that serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
    /// Settings that were changed and need a restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedFile {
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How far it came.
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
}

impl Findings {
    pub fn last(&self) -> Arc<Found> {
        self.0.load_full()
    }

    /// Says what is new, and remembers all of it.
    pub fn report(&self, found: Found, metrics: &Metrics) {
        let before = self.last();
        for it in found.providers.iter().filter(|it| !before.providers.contains(it)) {
            metrics.provider_load_failed(it.stage);
            let RefusedFile { file, sha256, stage, problem } = it;
            tracing::error!(
                file,
                digest = sha256,
                stage,
                problem,
                "a provider was not loaded, what was loaded before serves on"
            );
        }
        for file in found.missing_files.iter().filter(|it| !before.missing_files.contains(it)) {
            tracing::error!(
                file,
                "the file of a provider is gone, and registries use it: it serves on until the next start, which will fail"
            );
        }
        for problem in found.settings.iter().filter(|it| !before.settings.contains(it)) {
            tracing::error!(problem, "the settings were not taken over, those before serve on");
        }
        for setting in found.needs_restart.iter().filter(|it| !before.needs_restart.contains(it)) {
            tracing::warn!(setting, "was changed, and needs a restart to take effect");
        }
        if !before.is_nothing() && found.is_nothing() {
            tracing::info!("settings and providers are right again");
        }
        self.0.store(Arc::new(found));
    }
}
