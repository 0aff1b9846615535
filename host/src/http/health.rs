//! `GET /healthz`: the process is alive. `GET /readyz`: the broker can serve callers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::broker::Broker;
use crate::ship::Shipping;

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

pub(super) async fn readyz(State(broker): State<Broker>) -> (StatusCode, Json<Value>) {
    let Broker { process, generation } = &broker;
    if process.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "draining" })));
    }
    if let Some(reason) = process.audit.refusal() {
        let body = json!({ "status": "not ready", "audit": reason });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    if let Some(reason) = process.shipping.get().and_then(Shipping::refusal) {
        let body = json!({ "status": "not ready", "audit_ship": reason });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    // An issuer that is down makes its own callers wait and nobody else, so the broker stays ready.
    let issuers: Value = generation
        .identity
        .readiness()
        .map(|(name, ready)| (name.to_owned(), Value::Bool(ready)))
        .collect();
    // What serves is good, so callers may still come; what could not be activated is for the
    // operator.
    let found = process.findings.last();
    let found = (!found.is_nothing()).then_some(&*found);
    let registries = generation.registries.iter().count();
    // Kept credentials of a registry that is left alone are handed out all the same.
    let left_alone: Map<String, Value> = generation
        .registries
        .iter()
        .filter_map(|registry| {
            let wait = process.issuing.left_alone(registry)?;
            Some((registry.name.to_string(), json!({ "seconds": wait.as_secs() })))
        })
        .collect();
    let certificate = process.findings.certificate().map(|state| {
        let expires_at = state.expires_at.map(|time| time.to_string());
        json!({ "expires_at": expires_at, "problem": state.problem })
    });
    let body = json!({
        "status": "ready",
        "registries": registries,
        "left_alone": left_alone,
        "issuers": issuers,
        "not_taken_over": found,
        "certificate": certificate,
        "clock": process.clock_steps.check(),
    });
    (StatusCode::OK, Json(body))
}
