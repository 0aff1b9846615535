//! Begins the trace of a request, if traces are sent somewhere.
//!
//! **Invariant:** `traceparent` means nothing unless the peer is a trusted proxy, because anybody
//! can send it.

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;

use super::listen::Peer;
use super::observe::method;
use crate::broker::Broker;
use crate::domain::ClientAddress;
use crate::telemetry::traces::ProxyTrace;

/// The second middleware of what callers reach. Probes and metrics are not traced.
pub(super) async fn begin(
    State(broker): State<Broker>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(traces) = broker.process.traces.get() {
        let proxies = &broker.process.edge.trusted_proxies;
        let peer = request.extensions().get::<Peer>();
        let is_trusted =
            peer.is_some_and(|Peer(address)| proxies.contains(ClientAddress::new(*address)));
        let from = if is_trusted { of_proxy(request.headers()) } else { ProxyTrace::default() };
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map_or("none", MatchedPath::as_str);
        let trace = traces.begin(method(request.method()), route, from);
        request.extensions_mut().insert(trace);
    }
    next.run(request).await
}

/// A header that is there twice is no header: nobody can tell which one is meant.
fn of_proxy(headers: &HeaderMap) -> ProxyTrace<'_> {
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        let first = values.next().filter(|_| values.next().is_none());
        first.and_then(|value| value.to_str().ok())
    };
    ProxyTrace { parent: only("traceparent"), state: only("tracestate") }
}
