//! What the broker counts and measures, for `/metrics`.
//!
//! To add a metric: a field in [`Families`], its `labels`, a line in [`Metrics::new`] and in
//! `registered`, a function that records it, a row in `docs/metrics.md`. `http/metrics.rs` looks up
//! ages and sizes when it is asked; they are not kept here.
//!
//! **Invariant:** the values of labels come from the settings or from the code, never from a
//! request. Otherwise a caller could fill the memory. Projects and subjects are in audit records.
//! **Invariant:** the registry belongs to one `Process`. Several brokers in one operating-system
//! process do not share counts.

mod labels;
mod zero;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::labels::{
    AuditLabels, CallLabels, CredentialLabels, EventLabels, FunctionLabels, IssuedLabels,
    LimitLabels, MintLabels, OperationLabels, RefusedLabels, RegistryLabels, ReloadLabels,
    RequestLabels, RevocationLabels, RouteLabels, SharedLabels, StageLabels, StepLabels,
    TraceLabels, UpstreamLabels,
};
use crate::domain::{Action, Actions};

type CountsBy<L> = Family<L, Counter>;
type TimesBy<L> = Family<L, Histogram, fn() -> Histogram>;
type TracedTimesBy<L> = Family<L, TracedTimes, fn() -> TracedTimes>;
/// Each bucket names the last trace that fell into it.
type TracedTimes = HistogramWithExemplars<TraceLabels>;

/// Every name begins with this.
const PREFIX: &str = "rise_broker";

/// Cheap to clone. All clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl Deref for Metrics {
    type Target = Families;

    fn deref(&self) -> &Families {
        &self.0
    }
}

/// The metrics of [`Metrics`].
pub struct Families {
    registry: Registry,
    requests: CountsBy<RequestLabels>,
    request_seconds: TracedTimesBy<RouteLabels>,
    credentials: CountsBy<CredentialLabels>,
    step_seconds: TimesBy<StepLabels>,
    provider_calls: CountsBy<CallLabels>,
    provider_limits: CountsBy<LimitLabels>,
    provider_seconds: TimesBy<FunctionLabels>,
    upstream_calls: CountsBy<UpstreamLabels>,
    upstream_seconds: TimesBy<OperationLabels>,
    audit_records: CountsBy<AuditLabels>,
    audit_seconds: TimesBy<EventLabels>,
    refused: CountsBy<RefusedLabels>,
    issued: CountsBy<IssuedLabels>,
    registry_tokens: CountsBy<IssuedLabels>,
    mints: CountsBy<MintLabels>,
    renewals: CountsBy<RegistryLabels>,
    revocations: CountsBy<RevocationLabels>,
    remembered_failures: CountsBy<RegistryLabels>,
    reused_age: Histogram,
    load_failures: CountsBy<StageLabels>,
    reloads: CountsBy<ReloadLabels>,
    shared_failures: CountsBy<SharedLabels>,
}

/// The value of the label `actions`. `None`: the caller did not say.
pub(crate) fn actions_label(actions: Option<Actions>) -> &'static str {
    let Some(actions) = actions else { return "any" };
    match (actions.contains(Action::Pull), actions.contains(Action::Push)) {
        (true, true) => "pull,push",
        (true, false) => "pull",
        (false, true) => "push",
        (false, false) => "none",
    }
}

/// One call of a provider, as it is counted.
pub(crate) struct ProviderCall<'a> {
    /// Empty until the provider has described itself.
    pub(crate) provider: &'a Arc<str>,
    pub(crate) digest: &'a Arc<str>,
    pub(crate) function: &'static str,
    pub(crate) outcome: &'static str,
    /// The exceeded limit, if there is one.
    pub(crate) limit: Option<&'static str>,
    pub(crate) elapsed: Duration,
}

/// Buckets from 50 µs, which a rule takes, to 13 s, which exceeds every deadline; each is twice the
/// one before.
fn buckets() -> impl Iterator<Item = f64> {
    (0..19).map(|power| 0.000_05 * f64::from(1_u32 << power))
}

fn seconds() -> Histogram {
    Histogram::new(buckets())
}

fn traced_seconds() -> TracedTimes {
    HistogramWithExemplars::new(buckets())
}

/// From a second to nine hours; each four times the one before, up to the life of an ECR login.
fn ages() -> Histogram {
    Histogram::new((0..8).map(|power| f64::from(4_u32.pow(power))).chain([32_400.0, 43_200.0]))
}

fn times<L: Clone + std::hash::Hash + Eq>() -> TimesBy<L> {
    Family::new_with_constructor(seconds)
}

/// A registry with the common prefix, also for metrics that are looked up when somebody asks.
pub(crate) fn registry() -> Registry {
    Registry::with_prefix(PREFIX)
}

impl Metrics {
    pub fn new() -> Self {
        let mut families = Families {
            registry: Registry::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(traced_seconds),
            credentials: Family::default(),
            step_seconds: times(),
            provider_calls: Family::default(),
            provider_limits: Family::default(),
            provider_seconds: times(),
            upstream_calls: Family::default(),
            upstream_seconds: times(),
            audit_records: Family::default(),
            audit_seconds: times(),
            refused: Family::default(),
            issued: Family::default(),
            registry_tokens: Family::default(),
            mints: Family::default(),
            renewals: Family::default(),
            revocations: Family::default(),
            remembered_failures: Family::default(),
            reused_age: ages(),
            load_failures: Family::default(),
            reloads: Family::default(),
            shared_failures: Family::default(),
        };
        families.registry = families.registered();
        families.start_at_zero();
        Self(Arc::new(families))
    }
}

impl Families {
    fn registered(&self) -> Registry {
        let mut to = registry();
        to.register("requests", "Answered requests", self.requests.clone());
        to.register("request_seconds", "Time to an answer", self.request_seconds.clone());
        let help = "Verified requests for credentials";
        to.register("credential_requests", help, self.credentials.clone());
        to.register("step_seconds", "Time of one step of a request", self.step_seconds.clone());
        to.register("provider_calls", "Calls of providers", self.provider_calls.clone());
        let help = "Provider calls that exceeded a limit";
        to.register("provider_limits", help, self.provider_limits.clone());
        let help = "Time of a provider call, including what it waited for";
        to.register("provider_call_seconds", help, self.provider_seconds.clone());
        let help = "Calls of a cloud; retries within a call are not counted";
        to.register("upstream_calls", help, self.upstream_calls.clone());
        let help = "Time of a call of a cloud, including its retries";
        to.register("upstream_call_seconds", help, self.upstream_seconds.clone());
        to.register("audit_records", "Audit records", self.audit_records.clone());
        let help = "Time until an audit record is durable or given up";
        to.register("audit_record_seconds", help, self.audit_seconds.clone());
        let help = "Provider files that were not loaded while the broker ran";
        to.register("provider_load_failures", help, self.load_failures.clone());
        let help = "Issued credentials, by where they came from";
        to.register("issued", help, self.issued.clone());
        let help = "Tokens for registries that trust this broker, by what they were asked for with";
        to.register("registry_tokens", help, self.registry_tokens.clone());
        to.register("mints", "Provider calls that issue", self.mints.clone());
        let help = "Mints in the background, started in the second half of a credential's life";
        to.register("renewals", help, self.renewals.clone());
        let help = "Attempts to end a credential at its registry";
        to.register("revocations", help, self.revocations.clone());
        let help = "Requests answered with the failure of a mint a moment ago";
        to.register("remembered_failures", help, self.remembered_failures.clone());
        let help = "Age of a kept credential when it is handed out again";
        to.register("reused_age_seconds", help, self.reused_age.clone());
        to.register("reloads", "Reloads of changed settings and providers", self.reloads.clone());
        let help = "Questions to the shared store that it did not answer";
        to.register("shared_failures", help, self.shared_failures.clone());
        to.register("limit_refusals", "Requests that exceeded a limit", self.refused.clone());
        to
    }

    /// `route` is the registered route, not the path of the request.
    pub(crate) fn request(
        &self,
        route: &str,
        method: &'static str,
        outcome: &'static str,
        elapsed: Duration,
        trace_id: Option<String>,
    ) {
        let route = route.to_owned();
        let exemplar = trace_id.map(|trace_id| TraceLabels { trace_id });
        self.request_seconds.get_or_create(&RouteLabels { route: route.clone() }).observe(
            elapsed.as_secs_f64(),
            exemplar,
            None,
        );
        self.requests.get_or_create(&RequestLabels { route, method, outcome }).inc();
    }

    /// `registry` is the name of a configured registry, or empty.
    pub(crate) fn credentials(&self, registry: &str, actions: &'static str, outcome: &'static str) {
        let labels = CredentialLabels { registry: registry.to_owned(), actions, outcome };
        self.credentials.get_or_create(&labels).inc();
    }

    /// `source` is `minted`, `shared` or `cached`.
    pub(crate) fn issued(&self, registry: &str, source: &'static str) {
        let labels = IssuedLabels { registry: registry.to_owned(), source };
        self.issued.get_or_create(&labels).inc();
    }

    /// `source` is `caller` or `password`. `registry` is empty if the token opens nothing.
    pub(crate) fn registry_token(&self, registry: &str, source: &'static str) {
        let labels = IssuedLabels { registry: registry.to_owned(), source };
        self.registry_tokens.get_or_create(&labels).inc();
    }

    pub(crate) fn mint(&self, registry: &str, outcome: &'static str) {
        self.mints.get_or_create(&MintLabels { registry: registry.to_owned(), outcome }).inc();
    }

    pub(crate) fn renewal(&self, registry: &str) {
        self.renewals.get_or_create(&RegistryLabels { registry: registry.to_owned() }).inc();
    }

    pub(crate) fn revocation(&self, registry: &str, cause: &'static str, outcome: &'static str) {
        let labels = RevocationLabels { registry: registry.to_owned(), cause, outcome };
        self.revocations.get_or_create(&labels).inc();
    }

    pub(crate) fn remembered_failure(&self, registry: &str) {
        let labels = RegistryLabels { registry: registry.to_owned() };
        self.remembered_failures.get_or_create(&labels).inc();
    }

    /// A kept credential of this age, in seconds, is handed out again.
    pub(crate) fn reused(&self, age: u32) {
        self.reused_age.observe(f64::from(age));
    }

    pub(crate) fn step(&self, step: &'static str, elapsed: Duration) {
        self.step_seconds.get_or_create(&StepLabels { step }).observe(elapsed.as_secs_f64());
    }

    pub(crate) fn provider_call(&self, call: &ProviderCall<'_>) {
        let ProviderCall { provider, digest, function, outcome, limit, elapsed } = *call;
        let (provider, digest) = (Arc::clone(provider), Arc::clone(digest));
        self.provider_seconds
            .get_or_create(&FunctionLabels { provider: Arc::clone(&provider), function })
            .observe(elapsed.as_secs_f64());
        if let Some(limit) = limit {
            let (provider, digest) = (Arc::clone(&provider), Arc::clone(&digest));
            self.provider_limits.get_or_create(&LimitLabels { provider, digest, limit }).inc();
        }
        let labels = CallLabels { provider, digest, function, outcome };
        self.provider_calls.get_or_create(&labels).inc();
    }

    pub(crate) fn upstream_call(
        &self,
        registry: &str,
        operation: &'static str,
        outcome: &'static str,
        elapsed: Duration,
    ) {
        let registry = registry.to_owned();
        self.upstream_seconds
            .get_or_create(&OperationLabels { registry: registry.clone(), operation })
            .observe(elapsed.as_secs_f64());
        self.upstream_calls.get_or_create(&UpstreamLabels { registry, operation, outcome }).inc();
    }

    pub(crate) fn audit_record(&self, event: &'static str, is_durable: bool, elapsed: Duration) {
        self.audit_seconds.get_or_create(&EventLabels { event }).observe(elapsed.as_secs_f64());
        let outcome = if is_durable { "ok" } else { "failed" };
        self.audit_records.get_or_create(&AuditLabels { event, outcome }).inc();
    }

    /// Counts a request that exceeded a limit.
    pub(crate) fn limit_refused(&self, limit: &'static str) {
        self.refused.get_or_create(&RefusedLabels { limit }).inc();
    }

    /// Counts a provider file that was not loaded, by the stage that failed.
    pub(crate) fn provider_load_failed(&self, stage: &'static str) {
        self.load_failures.get_or_create(&StageLabels { stage }).inc();
    }

    /// `purpose` is what the shared store was asked for.
    pub(crate) fn shared_failure(&self, purpose: &'static str, reason: &'static str) {
        self.shared_failures.get_or_create(&SharedLabels { purpose, reason }).inc();
    }

    pub(crate) fn reloaded(&self, is_right: bool) {
        let outcome = if is_right { "ok" } else { "failed" };
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }

    /// The text format of `OpenMetrics`; the metrics of `looked_up` come last.
    pub(crate) fn encode(&self, looked_up: &Registry) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode_registry(&mut out, &self.registry)?;
        text::encode_registry(&mut out, looked_up)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_brokers_in_one_process_count_apart() {
        let (one, two) = (Metrics::new(), Metrics::new());
        one.clone().limit_refused("subject");
        let line = "rise_broker_limit_refusals_total{limit=\"subject\"} 1";
        assert!(one.encode(&registry()).unwrap().contains(line));
        assert!(!two.encode(&registry()).unwrap().contains(line));
    }

    #[test]
    fn the_text_ends_as_openmetrics_does() {
        let metrics = Metrics::new();
        metrics.request("/x", "GET", "ok", Duration::from_millis(3), None);
        let text = metrics.encode(&registry()).unwrap();
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("rise_broker_request_seconds_bucket{le=\"0.0032\",route=\"/x\"} 1"));
        assert!(text.contains("# TYPE rise_broker_requests counter"));
    }
}
