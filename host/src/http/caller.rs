//! Who asks: the limit of an address, the token, the limit of a subject, in this order and in one place.
//!
//! A handler that takes a [`Caller`] can skip none of them.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::bearer::Bearer;
use super::problem::Failure;
use super::request_context::RequestContext;
use crate::broker::Broker;
use crate::domain::{ClientAddress, Subject};
use crate::identity::IdentityError;

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
        // Whether the token was good is not known.
        Ok(_) | Err(Failure::Identity(IdentityError::IssuerUnavailable { .. })) => {}
        Err(_) => broker.generation.limits.failed_authentication(client),
    }
    verified
}
