//! Where a request comes from: the peer of its connection, or whom a trusted proxy speaks for.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;

use super::listen::Peer;
use super::problem::Failure;
use crate::domain::{ClientAddress, TrustedProxies};

/// For handlers and records. Requests that came over no connection, in process, are all of one client.
pub(super) struct Client(pub ClientAddress);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let address = parts.extensions.get().copied();
        address.map(Self).ok_or_else(|| Failure::Internal("a request without a client".to_owned()))
    }
}

pub(super) fn address(request: &Request, proxies: &TrustedProxies) -> ClientAddress {
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| *address);
    let forwarded = request.headers().get_all("x-forwarded-for");
    // One that is not text is a hop that cannot be read, not one that is not there.
    let forwarded = forwarded.iter().map(|value| value.to_str().unwrap_or("?"));
    proxies.client(peer, forwarded.collect::<Vec<_>>().into_iter())
}
