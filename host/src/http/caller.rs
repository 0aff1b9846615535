//! The caller of a request: the limit of its address, its token, and the limit of its subject are
//! checked in this order and in one place.
//!
//! **Invariant:** a handler that takes a [`Caller`] can skip none of these checks.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::bearer::Bearer;
use super::problem::Failure;
use super::request_context::RequestContext;
use crate::broker::Broker;
use crate::domain::{ClientAddress, Subject};
use crate::identity::IdentityError;

/// A caller whose token is verified.
pub(super) struct Caller(pub Subject);

impl FromRequestParts<Broker> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, broker: &Broker) -> Result<Self, Failure> {
        let RequestContext { client, .. } =
            RequestContext::from_request_parts(parts, broker).await?;
        let limits = &broker.generation.limits;
        limits.address(client).map_err(Failure::Limited)?;
        let subject = authenticate(parts, broker, client).await?;
        limits.subject(&subject).map_err(Failure::Limited)?;
        Ok(Self(subject))
    }
}

async fn authenticate(
    parts: &mut Parts,
    broker: &Broker,
    client: ClientAddress,
) -> Result<Subject, Failure> {
    let verified = match Bearer::from_request_parts(parts, broker).await {
        Ok(token) => token.verify(broker).await,
        Err(failure) => Err(failure),
    };
    match &verified {
        // It is not known whether the token was good.
        Ok(_) | Err(Failure::Identity(IdentityError::IssuerUnavailable { .. })) => {}
        Err(_) => broker.generation.limits.failed_authentication(client),
    }
    verified
}
