//! Workload identity federation, from both sides: the address at which a cloud reaches the keys of
//! a broker ([`IssuerFront`]), and what a cloud checks of an identity token ([`Trust`]).

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::TestBroker;
use crate::https::{Certificate, HttpsListener};

/// The public address of a broker, over TLS. It exists before the broker, whose issuer it is.
#[derive(Debug)]
pub struct IssuerFront {
    listener: HttpsListener,
    certificate: Certificate,
}

/// A front that serves, until it is dropped.
#[derive(Debug)]
pub struct ServingFront(JoinHandle<()>);

impl Drop for ServingFront {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl IssuerFront {
    pub async fn bind() -> Self {
        Self { listener: HttpsListener::bind().await, certificate: Certificate::new() }
    }

    pub fn issuer(&self) -> String {
        format!("https://{}", self.listener.host())
    }

    /// The table of a broker that signs as this issuer.
    pub fn signing(&self) -> String {
        format!(
            "[signing]\nissuer = \"{}\"\nkey_file = \"@STATE@/signing-keys.pem\"\n",
            self.issuer()
        )
    }

    /// What an administrator of a cloud configures: this issuer, an audience, and subjects letter
    /// by letter.
    pub fn trust(&self, audience: &str, subjects: &[&str]) -> Trust {
        Trust {
            issuer: self.issuer(),
            authority: self.certificate.pem().to_owned(),
            audience: audience.to_owned(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
        }
    }

    /// Serves what the broker serves.
    pub fn serve(self, broker: &TestBroker) -> ServingFront {
        ServingFront(self.listener.serve(&self.certificate, broker.routes()))
    }
}

/// What a cloud trusts.
#[derive(Clone, Debug)]
pub struct Trust {
    pub issuer: String,
    /// The certificate of the issuer, in PEM. Clouds trust public authorities.
    authority: String,
    pub audience: String,
    pub subjects: Vec<String>,
}

/// The first thing for which a cloud rejects an identity token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistrust {
    /// It is no JWT that RS256 signs.
    Form,
    Issuer,
    /// The issuer's keys cannot be had.
    Keys,
    Signature,
    Audience,
    Subject,
    Expired,
}

impl Trust {
    /// `authority` is the certificate of the issuer's server, in PEM.
    pub fn new(issuer: String, authority: String, audience: String, subjects: Vec<String>) -> Self {
        Self { issuer, authority, audience, subjects }
    }

    /// The claims of a token that this cloud accepts. It fetches the keys anew.
    pub async fn verify(&self, token: &str) -> Result<Value, Mistrust> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { return Err(Mistrust::Form) };
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let (Some(names), Some(claims)) = (read(header), read(payload)) else {
            return Err(Mistrust::Form);
        };
        if names["alg"] != "RS256" {
            return Err(Mistrust::Form);
        }
        if claims["iss"] != *self.issuer {
            return Err(Mistrust::Issuer);
        }
        let key = self.key(names["kid"].as_str().unwrap_or_default()).await;
        let key = key.ok_or(Mistrust::Keys)?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Mistrust::Form)?;
        let message = format!("{header}.{payload}");
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature)
            .map_err(|_| Mistrust::Signature)?;
        let now = Timestamp::now().as_second();
        let time = |name: &str| claims[name].as_i64();
        if time("exp").is_none_or(|exp| exp <= now) || time("nbf").is_some_and(|nbf| nbf > now) {
            return Err(Mistrust::Expired);
        }
        if claims["aud"] != *self.audience {
            return Err(Mistrust::Audience);
        }
        let subject = claims["sub"].as_str().unwrap_or_default();
        if !self.subjects.iter().any(|trusted| trusted == subject) {
            return Err(Mistrust::Subject);
        }
        Ok(claims)
    }

    /// A key of the issuer, found by its discovery document.
    async fn key(&self, kid: &str) -> Option<PublicKeyComponents<Vec<u8>>> {
        let authority = reqwest::Certificate::from_pem(self.authority.as_bytes()).ok()?;
        let client = reqwest::Client::builder().no_proxy().https_only(true);
        let client = client.tls_certs_only([authority]).build().ok()?;
        let fetch = async |url: &str| {
            let body = client.get(url).send().await.ok()?.bytes().await.ok()?;
            serde_json::from_slice::<Value>(&body).ok()
        };
        let document = fetch(&format!("{}/.well-known/openid-configuration", self.issuer)).await?;
        if document["issuer"] != *self.issuer {
            return None;
        }
        let keys = fetch(document["jwks_uri"].as_str()?).await?;
        let key = keys["keys"].as_array()?.iter().find(|key| key["kid"] == kid)?;
        let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        Some(PublicKeyComponents { n: number("n")?, e: number("e")? })
    }
}

/// The claims of a JWT, which nobody verifies.
///
/// # Panics
/// If it is none.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A JWT with these claims that only its maker checks: a double keeps those that it made.
pub(crate) fn own_jwt(claims: &Value) -> String {
    let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
    let signature = ulid::Ulid::generate().to_string();
    format!("{}.{}.{signature}", encode(r#"{"alg":"RS256"}"#), encode(&claims.to_string()))
}
