//! oidc-provider-mock: an OIDC issuer with discovery, keys and a login that needs no browser.
//!
//! Its tokens are ID tokens: RS256 with `kid`; `aud` is a list of one; `iat`, `exp`, `auth_time`,
//! `at_hash`; no `nbf`, no `jti`. The keys at `jwks_uri` carry neither `alg` nor `use`.

use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use crate::loopback::Client;
use crate::process::{PeerCommand, Port, Process};

const REDIRECT: &str = "http://127.0.0.1/callback";

/// One issuer with one key.
#[derive(Debug)]
pub struct Oidc {
    process: Process,
    client: Client,
    issuer: String,
}

impl Oidc {
    /// Starts an issuer whose tokens live for ten minutes.
    ///
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start() -> Self {
        Self::start_with_token_seconds(600).await
    }

    /// The same with another lifetime; tokens of negative seconds have already expired.
    pub async fn start_with_token_seconds(seconds: i32) -> Self {
        let port = Port::free();
        let issuer = port.url();
        let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/oidc_provider.py");
        let command = PeerCommand::python("python")
            .argument(launcher.display().to_string())
            .argument(port.number().to_string())
            .argument(seconds.to_string());
        let discovery = format!("{issuer}/.well-known/openid-configuration");
        let process = Process::start("oidc-provider-mock", command, port, &discovery).await;
        Self { process, client: Client::new(), issuer }
    }

    /// The issuer's name, exactly as in `iss`: `http://127.0.0.1:PORT`. Discovery is below it.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub async fn jwks(&self) -> Value {
        self.client.get(&format!("{}/jwks", self.issuer)).await.accepted().json()
    }

    /// A signed token of `sub` for `audience`, with these further claims (a JSON object).
    ///
    /// Claims of the scopes `profile` and `email` (`email`, `name` …) are missing: they appear only
    /// for a client that asks for them.
    pub async fn token(&self, sub: &str, audience: &str, claims: &Value) -> String {
        self.set_user(sub, claims).await;
        let code = self.log_in(sub, audience).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("client_id", audience),
            ("client_secret", "any"),
        ];
        let answer = self
            .client
            .post_form(&format!("{}/oauth2/token", self.issuer), &form, &[])
            .await
            .accepted()
            .json();
        answer["id_token"].as_str().unwrap().to_owned()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    async fn set_user(&self, sub: &str, claims: &Value) {
        let mut url = url::Url::parse(&self.issuer).unwrap();
        url.set_path(&format!("/users/{sub}"));
        self.client
            .send(Method::PUT, url.as_str(), "application/json", claims.to_string(), &[])
            .await
            .accepted();
    }

    async fn log_in(&self, sub: &str, client_id: &str) -> String {
        let query = [
            ("response_type", "code"),
            ("scope", "openid"),
            ("client_id", client_id),
            ("redirect_uri", REDIRECT),
        ];
        let url = url::Url::parse_with_params(&format!("{}/oauth2/authorize", self.issuer), query)
            .unwrap();
        let answer = self.client.post_form(url.as_str(), &[("sub", sub)], &[]).await.accepted();
        let location = url::Url::parse(&answer.location.unwrap()).unwrap();
        let (_, code) = location.query_pairs().find(|(name, _)| name == "code").unwrap();
        code.into_owned()
    }
}
