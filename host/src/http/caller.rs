//! Who asks: the limit of an address, the token, the limit of a subject, in this order and in one place.
//!
//! A handler that takes a [`Caller`] can skip none of them.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::bearer::Bearer;
use super::client::Client;
use super::problem::Failure;
use crate::app::App;
use crate::domain::{ClientAddress, Subject};
use crate::identity::IdentityError;

pub(super) struct Caller(pub Subject);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let Client(client) = Client::from_request_parts(parts, app).await?;
        app.limits.address(client).map_err(Failure::Limited)?;
        let subject = authenticate(parts, app, client).await?;
        app.limits.subject(&subject).map_err(Failure::Limited)?;
        Ok(Self(subject))
    }
}

async fn authenticate(
    parts: &mut Parts,
    app: &Arc<App>,
    client: ClientAddress,
) -> Result<Subject, Failure> {
    let verified = match Bearer::from_request_parts(parts, app).await {
        Ok(token) => token.verify(app).await,
        Err(failure) => Err(failure),
    };
    match &verified {
        // Whether the token was good is not known.
        Ok(_) | Err(Failure::Identity(IdentityError::IssuerUnavailable { .. })) => {}
        Err(_) => app.limits.failed_authentication(client),
    }
    verified
}
