//! The `Authorization` header: exactly one, with exactly one bearer token. No other place of a
//! request may hold a token.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use super::observe;
use super::problem::Failure;
use crate::broker::Broker;
use crate::domain::{Secret, Subject};
use crate::telemetry::Step;

pub(crate) struct Bearer(pub Secret);

impl Bearer {
    /// Verifies the token. From here on the request's log lines name its subject.
    pub(super) async fn verify(&self, broker: &Broker) -> Result<Subject, Failure> {
        let verifying = broker.generation.identity.verify(&self.0);
        let subject = Step::Identity.measure(&broker.process.metrics, verifying).await?;
        observe::caller(&subject);
        Ok(subject)
    }
}

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let mut headers = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(only), None) = (headers.next(), headers.next()) else {
            return Err(Failure::MissingToken);
        };
        let (scheme, token) = only
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or(Failure::MissingToken)?;
        let is_token = !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if scheme.eq_ignore_ascii_case("bearer") && is_token {
            Ok(Self(Secret::new(token.to_owned())))
        } else {
            Err(Failure::MissingToken)
        }
    }
}
