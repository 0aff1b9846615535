//! `OpenID` Connect, as far as `login` needs it: discovery, the device flow (RFC 8628), refreshing and revoking.
//!
//! **Invariant:** endpoints are https or on this machine, and are taken from the issuer's own document only.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Method;
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::{Failure, shown};
use crate::secret::Secret;
use crate::settings::{BrokerUrl, LoginSettings, Settings};
use crate::transport::{Authorization, Exchange, Reply, Transport, percent_encoded};

const SETTING: &str = "`login.issuer`";

/// An issuer that said where its endpoints are.
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

/// What a person has to do elsewhere.
#[derive(Deserialize)]
pub(crate) struct DeviceCode {
    #[serde(rename = "device_code")]
    code: Secret,
    pub(crate) user_code: String,
    pub(crate) verification_uri: String,
    pub(crate) verification_uri_complete: Option<String>,
    pub(crate) expires_in: u64,
    /// Seconds between two questions.
    pub(crate) interval: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct IssuedTokens {
    id_token: Option<Secret>,
    access_token: Option<Secret>,
    pub(crate) refresh_token: Option<Secret>,
}

/// What came of a question while somebody is to agree.
pub(crate) enum DeviceAnswer {
    Agreed(IssuedTokens),
    NotYet,
    /// And ask less often.
    SlowDown,
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
    ) -> Result<Self, Failure> {
        let url = BrokerUrl::parse(&login.issuer, "login.issuer")?;
        // RISE_CA_FILE is about the broker.
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
        let reply = reply.map_err(|trouble| trouble.towards(&whom, SETTING))?;
        let document: DiscoveryDocument = read(&reply, &whom)?;
        if document.issuer.trim_end_matches('/') != login.issuer.trim_end_matches('/') {
            return Err(Failure::Untrusted(format!(
                "{whom} says that it is {}: check {SETTING}",
                shown(&document.issuer)
            )));
        }
        Ok(Self { login, settings, environment, document })
    }

    pub(crate) fn device(&self, deadline: Deadline) -> Result<DeviceCode, Failure> {
        let endpoint = self.document.device_authorization_endpoint.as_deref().ok_or_else(|| {
            Failure::Settings(format!(
                "{} has no device flow: have it switched on, or use RISE_TOKEN_FILE",
                self.whom()
            ))
        })?;
        let form =
            [("client_id", self.login.client_id.as_str()), ("scope", "openid offline_access")];
        let reply = self.post(endpoint, &form, deadline)?;
        let device: DeviceCode =
            read(&reply, &self.whom()).map_err(|failure| self.refused(&reply, failure))?;
        // People are sent there.
        let uri = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
        BrokerUrl::parse(
            uri.split('?').next().unwrap_or_default(),
            "the issuer's verification_uri",
        )?;
        Ok(device)
    }

    pub(crate) fn ask(
        &self,
        device: &DeviceCode,
        deadline: Deadline,
    ) -> Result<DeviceAnswer, Failure> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.code.expose()),
            ("client_id", &self.login.client_id),
        ];
        let reply = self.post(&self.document.token_endpoint, &form, deadline)?;
        let problem: Result<OauthError, _> = serde_json::from_slice(&reply.body);
        match problem.as_ref().map(|it| it.error.as_str()) {
            Ok("authorization_pending") => Ok(DeviceAnswer::NotYet),
            Ok("slow_down") => Ok(DeviceAnswer::SlowDown),
            Ok("expired_token") => Err(Failure::Token(
                "nobody agreed in time: run `rise-registry login` again".to_owned(),
            )),
            Ok("access_denied") => Err(Failure::Denied("the login was refused".to_owned())),
            _ => read(&reply, &self.whom())
                .map(DeviceAnswer::Agreed)
                .map_err(|failure| self.refused(&reply, failure)),
        }
    }

    pub(crate) fn refresh(
        &self,
        refresh_token: &Secret,
        deadline: Deadline,
    ) -> Result<IssuedTokens, Failure> {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
            ("client_id", &self.login.client_id),
        ];
        let reply = self.post(&self.document.token_endpoint, &form, deadline)?;
        let problem: Result<OauthError, _> = serde_json::from_slice(&reply.body);
        if problem.is_ok_and(|it| it.error == "invalid_grant") {
            return Err(Failure::Token(format!(
                "the login at {} is over: run `rise-registry login`",
                self.login.issuer
            )));
        }
        read(&reply, &self.whom()).map_err(|failure| self.refused(&reply, failure))
    }

    /// If the issuer knows how to (RFC 7009).
    pub(crate) fn revoke(&self, refresh_token: &Secret, deadline: Deadline) -> Result<(), Failure> {
        let Some(endpoint) = self.document.revocation_endpoint.as_deref() else { return Ok(()) };
        let form = [
            ("token", refresh_token.expose()),
            ("token_type_hint", "refresh_token"),
            ("client_id", &self.login.client_id),
        ];
        let reply = self.post(endpoint, &form, deadline)?;
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
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
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
        reply.map_err(|trouble| trouble.towards(&self.whom(), SETTING))
    }

    fn whom(&self) -> String {
        format!("the issuer at {}", self.login.issuer)
    }

    /// Its own words, if it has some.
    fn refused(&self, reply: &Reply, otherwise: Failure) -> Failure {
        match serde_json::from_slice::<OauthError>(&reply.body) {
            Ok(problem) => Failure::Token(format!(
                "{} refuses: {} {}: check `login.client_id`",
                self.whom(),
                shown(&problem.error),
                shown(&problem.error_description)
            )),
            Err(_) => otherwise,
        }
    }
}

impl IssuedTokens {
    /// What the broker takes: a token that is made out to it. An issuer that makes access tokens for it by itself is rare;
    /// else its ID token, whose audience is the client.
    pub(crate) fn for_the_broker(&mut self, audience: &str) -> Option<Secret> {
        let fits = |it: &Secret| Claims::of(it).audiences().contains(&audience);
        self.access_token.take().filter(fits).or_else(|| self.id_token.take())
    }
}

fn read<T: DeserializeOwned>(reply: &Reply, whom: &str) -> Result<T, Failure> {
    // A message of serde_json can quote a value, and values are secrets.
    let value = serde_json::from_slice(&reply.body).ok().filter(|_| reply.status.is_success());
    value.ok_or_else(|| {
        Failure::Untrusted(format!(
            "{whom} did not answer as one (status {}): check {SETTING}",
            reply.status.as_u16()
        ))
    })
}
