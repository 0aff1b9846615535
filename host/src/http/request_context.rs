//! What every request has before anybody looks at what it asks for: an id, a client and a deadline.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use ulid::Ulid;

use super::listen::Peer;
use super::problem::Failure;
use crate::broker::Broker;
use crate::domain::{ClientAddress, Deadline, TrustedProxies};

#[derive(Clone, Copy)]
pub(super) struct RequestContext {
    /// In the answer, in log lines, in audit records, and in what the request does in AWS.
    pub id: Ulid,
    /// The peer of the connection, or whom a trusted proxy speaks for.
    pub client: ClientAddress,
    /// Of the whole request, from its headers to its answer.
    pub deadline: Deadline,
}

/// The first middleware: gives the request its context.
pub(super) async fn give_context(
    State(broker): State<Broker>,
    mut request: Request,
    next: Next,
) -> Response {
    let edge = &broker.process.edge;
    let context = RequestContext {
        id: Ulid::generate(),
        client: client_address(&request, &edge.trusted_proxies),
        deadline: Deadline::after(edge.timeouts.request),
    };
    request.extensions_mut().insert(context);
    next.run(request).await
}

impl RequestContext {
    pub(super) fn of(request: &Request) -> Result<Self, Failure> {
        request.extensions().get().copied().ok_or_else(missing)
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get().copied().ok_or_else(missing)
    }
}

fn missing() -> Failure {
    Failure::Internal("a request without its context".to_owned())
}

/// Requests that come over no connection, in process, are all of one client.
fn client_address(request: &Request, proxies: &TrustedProxies) -> ClientAddress {
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| *address);
    let forwarded = request.headers().get_all("x-forwarded-for");
    // A header that is not text is a hop that cannot be read, which is not the same as no hop.
    let forwarded = forwarded.iter().map(|value| value.to_str().unwrap_or("?"));
    proxies.client(peer, forwarded.collect::<Vec<_>>().into_iter())
}
