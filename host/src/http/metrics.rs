//! `GET /metrics` on the admin listener: counts since the start, and values that are looked up now.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::problem::Failure;
use crate::broker::Broker;
use crate::findings::Findings;
use crate::identity::Identity;
use crate::telemetry::metrics::registry;
use crate::telemetry::{TraceCounts, process, prometheus};
use crate::version;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

pub(super) async fn metrics(
    State(broker): State<Broker>,
    headers: HeaderMap,
) -> Result<impl IntoResponse + use<>, Failure> {
    start_at_zero(&broker);
    let text = broker.process.metrics.encode(&current_values(&broker));
    let text = text.map_err(|error| Failure::Internal(error.to_string()))?;
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    Ok(if accepted.flat_map(|value| value.split(',')).any(is_openmetrics) {
        ([(header::CONTENT_TYPE, OPENMETRICS)], text)
    } else {
        ([(header::CONTENT_TYPE, TEXT)], prometheus::text(&text))
    })
}

/// Whether a part of `Accept` wants `OpenMetrics`, as Prometheus 2.5 and later do.
fn is_openmetrics(part: &str) -> bool {
    let mut words = part.split(';').map(str::trim);
    let is_type = words.next().is_some_and(|name| name == "application/openmetrics-text");
    is_type && !words.any(|word| matches!(word, "q=0" | "q=0.0"))
}

/// A series that begins with its first event hides this event from `rate()`.
fn start_at_zero(broker: &Broker) {
    let metrics = &broker.process.metrics;
    for registry in broker.generation.registries.iter() {
        metrics.registry_starts(registry.name.as_str(), registry.aws_operations());
    }
    for provider in broker.generation.catalog.iter() {
        metrics.provider_starts(&provider.manifest.name, &provider.digest);
    }
}

/// Values that are looked up when somebody asks.
fn current_values(broker: &Broker) -> Registry {
    let mut to = registry();
    let build = vec![
        ("version", version::BROKER.to_owned()),
        ("contract", version::CONTRACT.to_owned()),
        ("wasmtime", version::WASMTIME.to_owned()),
    ];
    to.register("build", "This build", Info::new(build));
    let (instances, most) = broker.process.foundation.engine.instances();
    to.register("provider_instances", "Provider instances alive", gauge(instances as u64));
    to.register(
        "provider_instances_max",
        "The most instances that may be alive",
        gauge(most as u64),
    );
    let in_flight = broker.generation.limits.in_flight() as u64;
    to.register("requests_in_flight", "Requests that are served or wait", gauge(in_flight));
    to.register("draining", "1 while stopping", gauge(u64::from(broker.process.is_draining())));
    findings(&broker.process.findings, &mut to);
    let process = &broker.process;
    process.clock_steps.check();
    to.register("clock_steps", "How often the clock was set", counter(process.clock_steps.count()));
    if let Some(lost) = process.lost_lines.get() {
        to.register("log_lines_lost", "Log lines that could not be written", counter(lost.count()));
    }
    shipping(broker, &mut to);
    if let Some(traces) = process.traces.get() {
        let TraceCounts { sent, lost } = traces.counts();
        to.register("trace_spans_sent", "Spans that the collector took", counter(sent));
        let help = "Spans that were lost: the collector was away, refused them, or is too slow";
        to.register("trace_spans_lost", help, counter(lost));
    }
    if let Some(shared) = &broker.process.foundation.shared {
        let help = "1 while the shared store answers";
        to.register("shared_up", help, gauge(u64::from(shared.is_up())));
    }
    issuing(broker, &mut to);
    issuers(&broker.generation.identity, &mut to);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    to.register("tasks", "Tasks of the runtime that serves requests", gauge(tasks as u64));
    of_process(&mut to);
    to
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

fn findings(findings: &Findings, to: &mut Registry) {
    let (found, kinds) = (findings.last(), Family::<Labels, Gauge>::default());
    for (kind, count) in [
        ("settings", found.settings.len()),
        ("provider", found.providers.len()),
        ("missing-file", found.missing_files.len()),
        ("needs-restart", found.needs_restart.len()),
        ("waiting", usize::from(found.waiting.is_some())),
    ] {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        kinds.get_or_create(&vec![("kind", kind.to_owned())]).set(count);
    }
    to.register("not_taken_over", "Problems of the files that are not in use now", kinds);
    let Some(state) = findings.certificate() else { return };
    if let Some(expires_at) = state.expires_at {
        let expiry: Gauge = Gauge::default();
        expiry.set(expires_at.as_second());
        let help = "When the certificate of the listener expires, in seconds since 1970";
        to.register("certificate_expiry_timestamp_seconds", help, expiry);
    }
    let problem = gauge(u64::from(state.problem.is_some()));
    to.register("certificate_problem", "1 while the certificate or its files are wrong", problem);
}

fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn shipping(broker: &Broker, to: &mut Registry) {
    let Some(shipping) = broker.process.shipping.get() else { return };
    let (lag, behind) = (Family::<Labels, Gauge>::default(), Family::<Labels, Gauge>::default());
    let (shipped, failures) =
        (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
    for figures in shipping.figures() {
        let target = || ("target", figures.target.to_owned());
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        lag.get_or_create(&vec![target()]).set(number(figures.lag.as_secs()));
        behind.get_or_create(&vec![target()]).set(number(figures.lag_records));
        shipped.get_or_create(&vec![target()]).inc_by(figures.shipped);
        for (reason, count) in &figures.failures {
            let labels = vec![target(), ("reason", (*reason).to_owned())];
            failures.get_or_create(&labels).inc_by(*count);
        }
    }
    to.register("audit_ship_lag_seconds", "Age of the oldest record not shipped yet", lag);
    to.register("audit_ship_lag_records", "Records not shipped yet", behind);
    to.register("audit_shipped_records", "Records that were shipped", shipped);
    to.register("audit_ship_failures", "Attempts to ship records that failed", failures);
}

fn issuing(broker: &Broker, to: &mut Registry) {
    let issuing = &broker.process.issuing;
    let used = issuing.cache_use();
    to.register("cached_credentials", "Credentials that are kept", gauge(used.entries));
    to.register("cached_credentials_bytes", "About their size", gauge(used.bytes));
    let out = issuing.outstanding();
    let help = "Credentials that may still work and that the broker can end";
    to.register("outstanding_credentials", help, gauge(out.credentials as u64));
    let help = "Credentials that should have ended and may still work";
    to.register("overdue_credentials", help, gauge(out.overdue as u64));
    if let Some(together) = issuing.outstanding_together() {
        let help = "Credentials that the brokers of [shared] together can end";
        to.register("shared_outstanding_credentials", help, gauge(together));
    }
    let leftovers = Family::<Labels, Gauge>::default();
    let left_alone = Family::<Labels, Gauge>::default();
    for registry in broker.generation.registries.iter() {
        let labels = vec![("registry", registry.name.to_string())];
        let is_left_alone = issuing.left_alone(registry).is_some();
        left_alone.get_or_create(&labels).set(i64::from(is_left_alone));
        if let Some(found) = issuing.leftovers(registry) {
            leftovers.get_or_create(&labels).set(i64::try_from(found).unwrap_or(i64::MAX));
        }
    }
    let help =
        "1 while the registry is not called, because it does not answer or asked for a pause";
    to.register("registry_left_alone", help, left_alone);
    let help = "Credentials of no record that the registry had when it was last asked";
    to.register("leftovers", help, leftovers);
}

fn issuers(identity: &Identity, to: &mut Registry) {
    let ready = Family::<Labels, Gauge>::default();
    for (name, is_ready) in identity.readiness() {
        ready.get_or_create(&vec![("issuer", name.to_owned())]).set(i64::from(is_ready));
    }
    let (age, fetches) = (Family::<Labels, Gauge>::default(), Family::<Labels, Counter>::default());
    for (name, fetched) in identity.fetched() {
        let issuer = || ("issuer", name.to_owned());
        if let Some(seconds) = fetched.age_seconds {
            age.get_or_create(&vec![issuer()]).set(seconds);
        }
        for (outcome, count) in [("ok", fetched.worked), ("failed", fetched.failed)] {
            let labels = vec![issuer(), ("outcome", outcome.to_owned())];
            fetches.get_or_create(&labels).inc_by(count);
        }
    }
    to.register("issuer_ready", "1 while the issuer's tokens can be verified", ready);
    to.register("issuer_key_age_seconds", "Age of the issuer's keys in use", age);
    to.register("issuer_key_fetches", "Fetches of the issuer's keys", fetches);
}

fn of_process(to: &mut Registry) {
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in use", process::resident_bytes()),
        ("process_open_fds", "Open file descriptors", process::open_files()),
        ("process_max_fds", "The most open file descriptors", process::most_files()),
    ] {
        if let Some(value) = value {
            to.register(name, help, gauge(value));
        }
    }
}
