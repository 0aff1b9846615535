//! `GET /healthz`: the process answers. `GET /readyz`: send it callers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

pub(super) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, Json<Value>) {
    if app.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "draining" })));
    }
    if let Some(reason) = app.audit.refusal() {
        let body = json!({ "status": "not ready", "audit": reason });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    // An issuer that is down keeps its own callers waiting, nobody else, so the broker stays ready; it is tried again here.
    app.identity.prefetch();
    let issuers: Value = app
        .identity
        .readiness()
        .map(|(name, ready)| (name.to_owned(), Value::Bool(ready)))
        .collect();
    // What serves is good, so callers are still sent here; what is not taken over is for the operator.
    let found = app.findings.last();
    let found = (!found.is_nothing()).then_some(&*found);
    let registries = app.registries.iter().count();
    let body = json!({ "status": "ready", "registries": registries, "issuers": issuers, "not_taken_over": found });
    (StatusCode::OK, Json(body))
}
