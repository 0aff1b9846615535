//! The caller of a request: the limit of its address, its token, and the limit of its subject are
//! checked in this order and in one place.
//!
//! **Invariant:** a handler that takes a [`Caller`] or a [`Holder`] can skip none of these checks.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::bearer::Bearer;
use super::problem::Failure;
use super::request_context::RequestContext;
use super::token::Login;
use crate::broker::Broker;
use crate::domain::{ClientAddress, Subject};
use crate::identity::IdentityError;
use crate::signing::Password;

/// A caller whose token is verified.
pub(super) struct Caller(pub Subject);

/// Who asks for a registry token.
pub(super) enum Holder {
    /// The holder of an OIDC token.
    Caller(Subject),
    /// The holder of a credential that this broker issued.
    Password(Password),
}

impl FromRequestParts<Broker> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, broker: &Broker) -> Result<Self, Failure> {
        let context = RequestContext::from_request_parts(parts, broker).await?;
        check_address(broker, context).await?;
        let verified = match Bearer::from_request_parts(parts, broker).await {
            Ok(token) => token.verify(broker).await,
            Err(failure) => Err(failure),
        };
        let subject = counted(broker, context.client, verified).await?;
        broker.generation.limits.subject(&subject).await.map_err(Failure::Limited)?;
        Ok(Self(subject))
    }
}

/// The same for a login.
pub(super) async fn holder(
    broker: &Broker,
    context: RequestContext,
    login: Result<Login, Failure>,
) -> Result<Holder, Failure> {
    check_address(broker, context).await?;
    let verified = match login {
        Ok(login) => login.verify(broker).await,
        Err(failure) => Err(failure),
    };
    let holder = counted(broker, context.client, verified).await?;
    let limits = &broker.generation.limits;
    let within = match &holder {
        Holder::Caller(subject) => limits.subject(subject).await,
        Holder::Password(password) => limits.password(password.grant).await,
    };
    within.map(|()| holder).map_err(Failure::Limited)
}

/// Whether this address has not failed too often.
pub(super) async fn check_address(broker: &Broker, context: RequestContext) -> Result<(), Failure> {
    broker.generation.limits.address(context.client).await.map_err(Failure::Limited)
}

/// Counts a failed authentication.
pub(super) async fn counted<T>(
    broker: &Broker,
    client: ClientAddress,
    verified: Result<T, Failure>,
) -> Result<T, Failure> {
    match &verified {
        // It is not known whether the token was good.
        Ok(_)
        | Err(Failure::Identity(IdentityError::IssuerUnavailable { .. }) | Failure::NotFound) => {}
        Err(_) => broker.generation.limits.failed_authentication(client).await,
    }
    verified
}
