//! The part of `OpenID` Connect that `login` needs: discovery, the device flow (RFC 8628), refresh
//! and revocation.
//!
//! **Invariant:** endpoints are https or on this machine, and only the issuer's own discovery
//! document names them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Method;
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::{Failure, shown};
use crate::patience::Setback;
use crate::settings::{BrokerUrl, LoginSettings, Settings};
use crate::transport::{Authorization, Exchange, Reply, Transport, percent_encoded};
use rise_secret::Secret;

const SETTING: &str = "`login.issuer`";

/// An issuer whose endpoints are known.
pub(crate) struct Issuer<'a> {
    login: &'a LoginSettings,
    settings: Settings,
    environment: &'a Environment,
    document: DiscoveryDocument,
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
}

/// The code that a person confirms in a browser.
#[derive(Deserialize)]
pub(crate) struct DeviceCode {
    #[serde(rename = "device_code")]
    code: Secret,
    pub(crate) user_code: String,
    pub(crate) verification_uri: String,
    pub(crate) verification_uri_complete: Option<String>,
    pub(crate) expires_in: u64,
    /// Seconds between two requests for the tokens.
    pub(crate) interval: Option<u64>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of OAuth 2.0")]
pub(crate) struct IssuedTokens {
    id_token: Option<Secret>,
    access_token: Option<Secret>,
    pub(crate) refresh_token: Option<Secret>,
}

/// The answer to a request for the tokens of a device code.
pub(crate) enum DeviceAnswer {
    Confirmed(IssuedTokens),
    Pending,
    /// The code is pending, and the issuer wants fewer requests.
    SlowDown,
}

/// Which failed requests are worth sending again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resend {
    Always,
    /// Only those that the issuer has not processed.
    Unprocessed,
}

impl Resend {
    fn limit(self, setback: Setback) -> Setback {
        match self {
            Self::Always => setback,
            Self::Unprocessed => setback.failure.into(),
        }
    }
}

#[derive(Deserialize)]
struct OauthError {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl<'a> Issuer<'a> {
    pub(crate) fn discover(
        login: &'a LoginSettings,
        settings: &Settings,
        environment: &'a Environment,
        deadline: Deadline,
    ) -> Result<Self, Setback> {
        let url = BrokerUrl::parse(&login.issuer, "login.issuer")?;
        // RISE_CA_FILE is for the broker alone.
        let settings = Settings { ca_file: None, ..settings.clone() };
        let transport = Transport::new(&url, &settings, environment)?;
        let reply = transport.send(&Exchange {
            method: Method::GET,
            url: &url.join("/.well-known/openid-configuration"),
            authorization: Authorization::Nobody,
            body: None,
            deadline,
        });
        let whom = format!("the issuer at {url}");
        let reply = reply.map_err(|error| error.setback(&whom, SETTING))?;
        let reply = answered(reply, &whom, Resend::Always)?;
        let document: DiscoveryDocument = read(&reply, &whom)?;
        if document.issuer.trim_end_matches('/') != login.issuer.trim_end_matches('/') {
            return Err(Failure::Untrusted(format!(
                "{whom} calls itself {}: check {SETTING}",
                shown(&document.issuer)
            ))
            .into());
        }
        Ok(Self { login, settings, environment, document })
    }

    pub(crate) fn device(&self, deadline: Deadline) -> Result<DeviceCode, Setback> {
        let endpoint = self.document.device_authorization_endpoint.as_deref().ok_or_else(|| {
            Failure::Settings(format!(
                "{} has no device flow: ask its operator to enable it, or use RISE_TOKEN_FILE",
                self.whom()
            ))
        })?;
        let form =
            [("client_id", self.login.client_id.as_str()), ("scope", "openid offline_access")];
        let reply = self.post(endpoint, &form, Resend::Always, deadline)?;
        let device: DeviceCode =
            read(&reply, &self.whom()).map_err(|failure| self.rejected(&reply, failure))?;
        // A person opens this URL, so it must be a safe one.
        let uri = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
        BrokerUrl::parse(
            uri.split('?').next().unwrap_or_default(),
            "the issuer's verification_uri",
        )?;
        Ok(device)
    }

    pub(crate) fn request_tokens(
        &self,
        device: &DeviceCode,
        deadline: Deadline,
    ) -> Result<DeviceAnswer, Setback> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.code.expose()),
            ("client_id", &self.login.client_id),
        ];
        let reply = self.post(&self.document.token_endpoint, &form, Resend::Always, deadline)?;
        let problem: Result<OauthError, _> = serde_json::from_slice(&reply.body);
        match problem.as_ref().map(|problem| problem.error.as_str()) {
            Ok("authorization_pending") => Ok(DeviceAnswer::Pending),
            Ok("slow_down") => Ok(DeviceAnswer::SlowDown),
            Ok("expired_token") => Err(Failure::Token(
                "the code was not confirmed in time: run `rise-registry login` again".to_owned(),
            )
            .into()),
            Ok("access_denied") => Err(Failure::Denied("the login was rejected".to_owned()).into()),
            _ => read(&reply, &self.whom())
                .map(DeviceAnswer::Confirmed)
                .map_err(|failure| self.rejected(&reply, failure).into()),
        }
    }

    pub(crate) fn refresh(
        &self,
        refresh_token: &Secret,
        deadline: Deadline,
    ) -> Result<IssuedTokens, Setback> {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
            ("client_id", &self.login.client_id),
        ];
        // A refresh token that is sent twice may end the login: many issuers accept it only once.
        let reply =
            self.post(&self.document.token_endpoint, &form, Resend::Unprocessed, deadline)?;
        let problem: Result<OauthError, _> = serde_json::from_slice(&reply.body);
        if problem.is_ok_and(|problem| problem.error == "invalid_grant") {
            return Err(Failure::Token(format!(
                "the login at {} has expired: run `rise-registry login`",
                self.login.issuer
            ))
            .into());
        }
        read(&reply, &self.whom()).map_err(|failure| self.rejected(&reply, failure).into())
    }

    /// Revokes the token if the issuer has an endpoint for it (RFC 7009).
    pub(crate) fn revoke(&self, refresh_token: &Secret, deadline: Deadline) -> Result<(), Failure> {
        let Some(endpoint) = self.document.revocation_endpoint.as_deref() else { return Ok(()) };
        let form = [
            ("token", refresh_token.expose()),
            ("token_type_hint", "refresh_token"),
            ("client_id", &self.login.client_id),
        ];
        let reply = self.post(endpoint, &form, Resend::Always, deadline)?;
        if reply.status.is_success() {
            return Ok(());
        }
        let status = reply.status.as_u16();
        Err(Failure::Unavailable(format!("{} answers {status} to the revocation", self.whom())))
    }

    fn post(
        &self,
        endpoint: &str,
        form: &[(&str, &str)],
        resend: Resend,
        deadline: Deadline,
    ) -> Result<Reply, Setback> {
        let url = BrokerUrl::parse(endpoint, "an endpoint of the issuer")?;
        let transport = Transport::new(&url, &self.settings, self.environment)?;
        let mut body = Zeroizing::new(String::new());
        for (name, value) in form {
            if !body.is_empty() {
                body.push('&');
            }
            body.push_str(name);
            body.push('=');
            body.push_str(&Zeroizing::new(percent_encoded(value)));
        }
        let reply = transport.send(&Exchange {
            method: Method::POST,
            url: url.as_str(),
            authorization: Authorization::Nobody,
            body: Some(("application/x-www-form-urlencoded", body)),
            deadline,
        });
        let reply = reply.map_err(|error| {
            let is_unprocessed = error.is_unsent();
            let setback = error.setback(&self.whom(), SETTING);
            if is_unprocessed { setback } else { resend.limit(setback) }
        })?;
        answered(reply, &self.whom(), resend)
    }

    fn whom(&self) -> String {
        format!("the issuer at {}", self.login.issuer)
    }

    /// The issuer's own words if it has any, else `otherwise`.
    fn rejected(&self, reply: &Reply, otherwise: Failure) -> Failure {
        match serde_json::from_slice::<OauthError>(&reply.body) {
            Ok(problem) => Failure::Token(format!(
                "{} rejects the request: {} {}: check `login.client_id`",
                self.whom(),
                shown(&problem.error),
                shown(&problem.error_description)
            )),
            Err(_) => otherwise,
        }
    }
}

impl IssuedTokens {
    /// The token whose audience is the broker's. Few issuers give access tokens that audience; with
    /// the others it is the ID token, whose audience is the client.
    pub(crate) fn for_the_broker(&mut self, audience: &str) -> Option<Secret> {
        let fits = |token: &Secret| Claims::of(token).audiences().contains(&audience);
        self.access_token.take().filter(fits).or_else(|| self.id_token.take())
    }
}

/// The answer, unless it says that the issuer cannot answer now.
fn answered(reply: Reply, whom: &str, resend: Resend) -> Result<Reply, Setback> {
    if !reply.is_passing() {
        return Ok(reply);
    }
    let words = match serde_json::from_slice::<OauthError>(&reply.body) {
        Ok(problem) => {
            format!(": {} {}", shown(&problem.error), shown(&problem.error_description))
        }
        Err(_) => String::new(),
    };
    let status = reply.status.as_u16();
    let failure = Failure::Unavailable(format!("{whom} answers {status}{words}: try again"));
    let setback = Setback { failure, repeat: reply.repeat() };
    Err(if matches!(status, 429 | 503) { setback } else { resend.limit(setback) })
}

fn read<T: DeserializeOwned>(reply: &Reply, whom: &str) -> Result<T, Failure> {
    // The error of serde_json can quote a value, and values are secrets, so it is dropped.
    let value = serde_json::from_slice(&reply.body).ok().filter(|_| reply.status.is_success());
    value.ok_or_else(|| {
        Failure::Untrusted(format!(
            "{whom} does not answer like one (status {}): check {SETTING}",
            reply.status.as_u16()
        ))
    })
}
