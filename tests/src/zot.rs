//! A double of zot with `http.auth.bearer`: it checks tokens as zot's source does, and a registry
//! behind it stores what real clients push.
//!
//! zot reads the first certificate of its file and no other, compares neither issuer nor audience,
//! and takes no wildcard for an action.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::gateway::{Asked, Gateway, bearer, challenge};

/// `http.auth.bearer` of its settings.
#[derive(Clone, Default)]
struct Bearer {
    realm: String,
    service: String,
    /// The public key of the first certificate in `cert`, in DER.
    key: Vec<u8>,
}

#[derive(Clone)]
struct Service {
    gateway: Arc<Gateway>,
    bearer: Arc<Mutex<Bearer>>,
}

/// It runs on the test's runtime.
pub struct Zot {
    host: String,
    service: Service,
    server: JoinHandle<()>,
}

impl Zot {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let service = Service { gateway: Arc::new(Gateway::start().await), bearer: Arc::default() };
        let router = Router::new().fallback(registry).with_state(service.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { host, service, server }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Starts it anew with these settings; `cert` is the text of the file.
    ///
    /// # Panics
    /// If there is no certificate in the file, as zot does.
    pub fn configure(&self, realm: &str, service: &str, cert: &str) {
        let (realm, service) = (realm.to_owned(), service.to_owned());
        *self.service.bearer.lock().unwrap() = Bearer { realm, service, key: public_key(cert) };
    }
}

impl Drop for Zot {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn public_key(certificates: &str) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-pubkey"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut openssl = openssl.spawn().unwrap();
    openssl.stdin.take().unwrap().write_all(certificates.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success(), "no certificate");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    BASE64_STANDARD.decode(lines.collect::<String>()).unwrap()
}

/// The claims of a token that the key has signed and that is valid now.
fn verified(token: &str, key: &[u8]) -> Option<Value> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    let names: Value = serde_json::from_slice(&decode(header)?).ok()?;
    let claims: Value = serde_json::from_slice(&decode(payload)?).ok()?;
    let message = format!("{header}.{payload}");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(message.as_bytes(), &decode(signature)?)
        .ok()?;
    let now = Timestamp::now().as_second();
    let is_valid = names["alg"] == "RS256"
        && claims["exp"].as_i64().is_none_or(|exp| exp > now)
        && claims["nbf"].as_i64().is_none_or(|nbf| nbf <= now);
    is_valid.then_some(claims)
}

fn opens(claims: &Value, asked: &Asked) -> bool {
    let access = claims["access"].as_array().into_iter().flatten();
    let may = |actions: &Value| {
        actions.as_array().into_iter().flatten().any(|action| action == asked.action)
    };
    access.into_iter().any(|one| {
        one["type"] == "repository" && one["name"] == *asked.repository && may(&one["actions"])
    })
}

async fn registry(State(service): State<Service>, request: Request) -> Response {
    let asked = Asked::of(request.method(), request.uri().path());
    let Bearer { realm, service: name, key } = service.bearer.lock().unwrap().clone();
    let scope =
        asked.as_ref().map(|asked| format!("repository:{}:{}", asked.repository, asked.action));
    let refused = challenge(&realm, &name, &scope.unwrap_or_default());
    let Some(token) = bearer(request.headers()) else { return refused };
    let Some(claims) = verified(token, &key) else {
        // zot answers a token that it cannot read without a challenge.
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if asked.is_some_and(|asked| !opens(&claims, &asked)) {
        return refused;
    }
    service.gateway.forward(request).await
}
