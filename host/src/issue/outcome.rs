//! The outcome of a mint whose caller may be gone.
//!
//! The mint and the caller that it was started for both hold the [`MintOutcome`]. If the last of
//! them drops it and no answer recorded the credential, it records it itself, so that each intent
//! has an outcome in the audit log. It also counts the request of a caller who has gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::CredentialSource;
use super::flight::FlightResult;
use crate::audit::{Audit, Delivery};
use crate::registries::Registry;
use crate::rules::Grant;
use crate::telemetry::{Metrics, actions_label};

pub(super) struct MintOutcome {
    audit: Audit,
    grant: Arc<Grant>,
    registry: Arc<Registry>,
    metrics: Metrics,
    ended: OnceLock<FlightResult>,
    is_recorded: AtomicBool,
    is_counted: AtomicBool,
    /// Tells [`Issuing::finish`](super::Issuing::finish) that there is something to wait for.
    due: OnceLock<Arc<()>>,
}

impl MintOutcome {
    pub(super) fn new(
        (audit, metrics): (Audit, Metrics),
        grant: &Arc<Grant>,
        registry: &Arc<Registry>,
    ) -> Arc<Self> {
        let (is_recorded, is_counted) = (AtomicBool::new(false), AtomicBool::new(false));
        let (grant, registry) = (Arc::clone(grant), Arc::clone(registry));
        let (ended, due) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { audit, grant, registry, metrics, ended, is_recorded, is_counted, due })
    }

    /// The intent is about to be recorded.
    pub(super) fn is_due(&self, minting: &Arc<()>) {
        let _ = self.due.set(Arc::clone(minting));
    }

    /// The mint has ended.
    pub(super) fn ended(&self, result: &FlightResult) {
        let _ = self.ended.set(result.clone());
    }

    /// The answer to the caller records it.
    pub(super) fn is_recorded(&self) {
        self.is_recorded.store(true, Ordering::Release);
    }

    /// No request, or one that is counted by itself.
    pub(super) fn is_counted(&self) {
        self.is_counted.store(true, Ordering::Release);
    }
}

impl Drop for MintOutcome {
    fn drop(&mut self) {
        let Some(result) = self.ended.get() else { return };
        if !self.is_counted.load(Ordering::Acquire) {
            let outcome = result.as_ref().err().map_or("ok", |error| error.problem_type().slug());
            let actions = actions_label(Some(self.grant.actions()));
            self.metrics.credentials(self.grant.registry().as_str(), actions, outcome);
        }
        let Ok(minted) = result else { return };
        if self.is_recorded.load(Ordering::Acquire) {
            return;
        }
        let delivery = Delivery {
            credentials: &minted.credentials,
            source: CredentialSource::Minted.as_str(),
            minted_by: minted.by,
            took: Some(minted.took),
        };
        self.audit.minted(&self.grant, self.registry.provider_facts(), &delivery);
    }
}
