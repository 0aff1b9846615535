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
    /// Reads a token that came in a header or as a password, or says what is wrong with it.
    pub(super) fn parse(token: &str) -> Result<Self, &'static str> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !token.bytes().all(is_token) {
            return Err(
                "the token has characters that no token has, such as quotes, spaces or a variable \
                 that was not replaced",
            );
        }
        Ok(Self(Secret::new(token.to_owned())))
    }

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
        let only = match (headers.next(), headers.next()) {
            (None, _) => return missing("there is no header `Authorization`"),
            (Some(_), Some(_)) => return missing("there are several headers `Authorization`"),
            (Some(only), None) => only,
        };
        let Some((scheme, token)) = only.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return missing("the header `Authorization` is not `Bearer` and a token");
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return missing("the scheme of the header `Authorization` is not `Bearer`");
        }
        if token.is_empty() {
            return missing("there is no token behind `Bearer`");
        }
        Self::parse(token).map_err(Failure::MissingToken)
    }
}
fn missing(cause: &'static str) -> Result<Bearer, Failure> {
    Err(Failure::MissingToken(cause))
}
