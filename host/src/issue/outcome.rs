//! The outcome of a mint whose caller may be gone.
//!
//! The mint and the caller that it was started for both hold the [`MintOutcome`]. If the last of
//! them drops it and no answer recorded the credential, it records it itself, so that each intent
//! has an outcome in the audit log. It also counts the request of a caller who has gone, and logs a
//! failure that no answer states.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::Span;

use super::flight::{FlightResult, Landed};
use super::{CredentialSource, IssueError};
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
    is_told: AtomicBool,
    /// Of the request that the mint was started for.
    span: Span,
    /// Tells [`Issuing::finish`](super::Issuing::finish) that there is something to wait for.
    due: OnceLock<Arc<()>>,
}

impl MintOutcome {
    pub(super) fn new(
        (audit, metrics): (Audit, Metrics),
        grant: &Arc<Grant>,
        registry: &Arc<Registry>,
    ) -> Arc<Self> {
        Arc::new(Self {
            audit,
            grant: Arc::clone(grant),
            registry: Arc::clone(registry),
            metrics,
            ended: OnceLock::new(),
            is_recorded: AtomicBool::new(false),
            is_counted: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            span: Span::current(),
            due: OnceLock::new(),
        })
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

    /// The request fails with the mint's error, and its own log line states it.
    pub(super) fn is_told(&self) {
        self.is_told.store(true, Ordering::Release);
    }

    /// No request, or one that is counted by itself.
    pub(super) fn is_counted(&self) {
        self.is_counted.store(true, Ordering::Release);
    }
}

impl MintOutcome {
    fn log_unless_told(&self, error: &IssueError) {
        // Nothing outside was asked: there is no intent.
        let was_called = self.due.get().is_some();
        if was_called && !self.is_told.load(Ordering::Acquire) {
            let problem = error.problem_type().slug();
            let aws = self.registry.capabilities.aws.as_ref();
            let web_identity = aws.and_then(|aws| aws.subject(&self.grant));
            self.span.in_scope(
                || tracing::warn!(problem, web_identity, cause = %error, "a mint failed"),
            );
        }
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
        let minted = match result {
            Ok(Landed { minted, source: CredentialSource::Minted }) => minted,
            // Another broker has minted it: there is no intent.
            Ok(_) => return,
            Err(error) => return self.log_unless_told(error),
        };
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
