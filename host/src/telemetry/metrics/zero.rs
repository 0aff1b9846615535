//! Series that exist before their first event: otherwise `rate()` does not see it, and nobody is
//! alerted.

use std::sync::Arc;

use super::labels::{
    AuditLabels, CallLabels, CredentialLabels, IssuedLabels, MintLabels, RefusedLabels,
    RegistryLabels, ReloadLabels, RequestLabels, StageLabels, UpstreamLabels,
};
use super::{CountsBy, Families};

/// Outcomes that an operator is alerted of. Their series exist from the start.
const UPSTREAM_FAILURES: [&str; 7] = [
    "clock-differs",
    "denied",
    "throttled",
    "timed-out",
    "unavailable",
    "nonsense",
    "invalid-settings",
];
const MINT_FAILURES: [&str; 5] = [
    "provider-failed",
    "upstream-denied",
    "upstream-unavailable",
    "upstream-timeout",
    "audit-unavailable",
];
/// The records of requests.
const EVENTS: [&str; 13] = [
    "issue.intent",
    "issue.completed",
    "issue.failed",
    "issue.aborted",
    "issue.minted",
    "repository.intent",
    "repository.changed",
    "repository.failed",
    "revoke.intent",
    "revoke.completed",
    "revoke.failed",
    "authz.denied",
    "authn.denied.summary",
];
const LIMITS: [&str; 9] = [
    "address",
    "subject",
    "project",
    "in-flight",
    "forms",
    "forms-per-address",
    "registry-queue",
    "registry-in-flight",
    "registry-pace",
];
const STAGES: [&str; 9] = [
    "read",
    "size",
    "lock",
    "signature",
    "component",
    "imports",
    "compile",
    "describe",
    "settings",
];

impl Families {
    pub(super) fn start_at_zero(&self) {
        for outcome in ["ok", "failed"] {
            start(&self.reloads, &ReloadLabels { outcome });
            for event in EVENTS {
                start(&self.audit_records, &AuditLabels { event, outcome });
            }
        }
        for limit in LIMITS {
            start(&self.refused, &RefusedLabels { limit });
        }
        for stage in STAGES {
            start(&self.load_failures, &StageLabels { stage });
        }
        for method in ["GET", "POST"] {
            let route = "/api/v1/registry/credentials".to_owned();
            start(&self.requests, &RequestLabels { route, method, outcome: "internal" });
        }
    }

    /// The series of a configured registry exist from now on, also those of the calls of AWS that
    /// its mints make.
    pub(crate) fn registry_starts(
        &self,
        registry: &str,
        of_aws: impl Iterator<Item = &'static str>,
    ) {
        let name = || registry.to_owned();
        for outcome in MINT_FAILURES.into_iter().chain(["ok"]) {
            start(&self.mints, &MintLabels { registry: name(), outcome });
            for actions in ["pull", "push", "pull,push"] {
                let labels = CredentialLabels { registry: name(), actions, outcome };
                start(&self.credentials, &labels);
            }
        }
        for source in ["minted", "shared", "cached"] {
            start(&self.issued, &IssuedLabels { registry: name(), source });
        }
        start(&self.renewals, &RegistryLabels { registry: name() });
        start(&self.remembered_failures, &RegistryLabels { registry: name() });
        for operation in of_aws {
            for outcome in UPSTREAM_FAILURES.into_iter().chain(["ok"]) {
                let labels = UpstreamLabels { registry: name(), operation, outcome };
                start(&self.upstream_calls, &labels);
            }
        }
    }

    /// The series of a loaded provider exist from now on.
    pub(crate) fn provider_starts(&self, provider: &str, digest: &Arc<str>) {
        for outcome in ["ok", "trapped", "limit"] {
            let (provider, digest) = (provider.into(), Arc::clone(digest));
            let labels = CallLabels { provider, digest, function: "issue", outcome };
            start(&self.provider_calls, &labels);
        }
    }
}

/// From now on the series exists.
fn start<L: Clone + std::hash::Hash + Eq>(counts: &CountsBy<L>, labels: &L) {
    drop(counts.get_or_create(labels));
}
