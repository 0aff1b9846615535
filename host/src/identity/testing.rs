//! Signers and an HTTP server for the tests of this module.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::domain::Clock;

pub(super) const NOW: i64 = 1_700_000_000;

#[derive(Clone)]
pub(super) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    pub(super) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(super) fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        Clock::from_fn(move || Timestamp::from_second(seconds.load(Ordering::SeqCst)).unwrap())
    }
}

/// A key pair under a name.
pub(super) struct Signer {
    kid: String,
    key: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(super) fn rsa(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            key: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        }
    }

    pub(super) fn p256(kid: &str) -> Self {
        Self {
            kid: kid.to_owned(),
            key: Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
        }
    }

    pub(super) fn ed25519(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Pair::Ed25519(Ed25519KeyPair::generate().unwrap()) }
    }

    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Pair::Rsa(key) => {
                let public = key.public_key();
                let (n, e) = (
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                );
                json!({ "kty": "RSA", "n": text(n), "e": text(e) })
            }
            Pair::P256(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
            }
            Pair::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref()) })
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk
    }

    pub(super) fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    pub(super) fn sign(&self, alg: &str, payload: &Value) -> String {
        self.sign_header(&json!({ "alg": alg, "typ": "JWT", "kid": self.kid }), payload)
    }

    pub(super) fn sign_header(&self, header: &Value, payload: &Value) -> String {
        self.sign_text(&header.to_string(), &payload.to_string())
    }

    pub(super) fn sign_text(&self, header: &str, payload: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let random = SystemRandom::new();
        let message = signed.as_bytes();
        let signature = match &self.key {
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let is_pss = header.contains("PS256");
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if is_pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[derive(Clone)]
pub(super) struct ServerAnswer {
    head: String,
    body: String,
    is_chunked: bool,
}

impl ServerAnswer {
    pub(super) fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self {
            head: format!("HTTP/1.1 {status} x\r\nconnection: close\r\n"),
            body: body.to_owned(),
            is_chunked: false,
        }
    }

    /// A body without `Content-Length`.
    pub(super) fn endless(body: &str) -> Self {
        Self { is_chunked: true, ..Self::ok(body) }
    }

    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.head = format!("{}{name}: {value}\r\n", self.head);
        self
    }

    fn bytes(&self) -> String {
        let Self { head, body, .. } = self;
        if self.is_chunked {
            format!(
                "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            )
        } else {
            format!("{head}content-length: {}\r\n\r\n{body}", body.len())
        }
    }
}

/// An HTTP server on loopback with configured answers.
pub(super) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, ServerAnswer>>,
    requests: Mutex<Vec<String>>,
    authorizations: Mutex<Vec<String>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { port, shared }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers as an issuer with these keys would.
    pub(super) fn publish(&self, signers: &[&Signer]) {
        let origin = self.origin();
        let document = json!({
            "issuer": origin,
            "jwks_uri": format!("{origin}/jwks"),
            "claims_supported": ["sub"],
        });
        self.answer("/.well-known/openid-configuration", ServerAnswer::ok(&document.to_string()));
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.answer("/jwks", ServerAnswer::ok(&json!({ "keys": keys }).to_string()));
    }

    pub(super) fn answer(&self, path: &str, answer: ServerAnswer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The `Authorization` header of each request; empty if it had none.
    pub(super) fn authorizations(&self) -> Vec<String> {
        self.shared.authorizations.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.is_err() || line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    shared.requests.lock().unwrap().push(path.clone());
    let authorization = lines.iter().find_map(|line| line.strip_prefix("authorization: "));
    shared.authorizations.lock().unwrap().push(authorization.unwrap_or_default().trim().to_owned());
    let answer = shared
        .answers
        .lock()
        .unwrap()
        .get(&path)
        .cloned()
        .unwrap_or_else(|| ServerAnswer::status(404, ""));
    let _ = stream.write_all(answer.bytes().as_bytes()).await;
    let _ = stream.shutdown().await;
}
