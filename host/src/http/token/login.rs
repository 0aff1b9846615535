//! The user name and password of a request for a registry token. The user name means nothing.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::broker::Broker;
use crate::domain::Secret;
use crate::http::bearer::Bearer;
use crate::http::caller::Holder;
use crate::http::problem::Failure;
use crate::telemetry::Step;

/// A password that nobody has checked yet.
pub(in crate::http) struct Login(Secret);

impl Login {
    /// Reads `Authorization: Basic`.
    pub(super) fn of_header(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let only = match (all.next(), all.next()) {
            (None, _) => return missing("there is no header `Authorization`"),
            (Some(_), Some(_)) => return missing("there are several headers `Authorization`"),
            (Some(only), None) => only,
        };
        let Some((scheme, login)) = only.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return missing("the header `Authorization` is not `Basic` and a login");
        };
        if !scheme.eq_ignore_ascii_case("basic") {
            return missing("the scheme of the header `Authorization` is not `Basic`");
        }
        let decoded = STANDARD.decode(login).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(decoded) = decoded.map(Secret::new) else {
            return missing("the login in the header `Authorization` is not base64 of text");
        };
        match decoded.expose().split_once(':') {
            Some((_, password)) => Self::new(password),
            None => missing("the login in the header `Authorization` has no `:`"),
        }
    }

    pub(super) fn is_in_header(headers: &HeaderMap) -> bool {
        headers.contains_key(header::AUTHORIZATION)
    }

    /// Reads the fields of a form.
    pub(super) fn of_form(form: &str, has_header: bool) -> Result<Self, Failure> {
        if has_header {
            return missing("there is a header `Authorization` beside the form");
        }
        let mut passwords = url::form_urlencoded::parse(form.as_bytes())
            .filter(|(name, _)| name == "password")
            .map(|(_, value)| Secret::new(value.into_owned()));
        match (passwords.next(), passwords.next()) {
            (Some(password), None) => Self::new(password.expose()),
            (None, _) => missing("the form has no `password`"),
            (Some(_), Some(_)) => missing("the form has `password` twice"),
        }
    }

    fn new(password: &str) -> Result<Self, Failure> {
        if password.is_empty() {
            return missing("the password is empty");
        }
        Ok(Self(Secret::new(password.to_owned())))
    }

    /// Verifies the password: one of this broker's own, or else the token of a caller.
    pub(in crate::http) async fn verify(self, broker: &Broker) -> Result<Holder, Failure> {
        let signing = broker.generation.signing.as_ref().ok_or(Failure::NotFound)?;
        if !signing.is_own(self.0.expose()) {
            let token = Bearer::parse(self.0.expose()).map_err(Failure::MissingLogin)?;
            return token.verify(broker).await.map(Holder::Caller);
        }
        let now = broker.process.foundation.clock.now();
        let verify = || signing.password(self.0.expose(), now);
        let password = Step::Identity.measure_now(&broker.process.metrics, verify);
        password.map(Holder::Password).map_err(Failure::InvalidPassword)
    }
}

fn missing(cause: &'static str) -> Result<Login, Failure> {
    Err(Failure::MissingLogin(cause))
}
