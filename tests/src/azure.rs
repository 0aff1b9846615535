//! A double of Microsoft Entra ID and of an Azure Container Registry, each at an address of its
//! own, over https as in the cloud. The images are in a real registry behind it.
//!
//! `azure-identity` and `azure-containerregistry` work with it (`behaviour::azure_double`). It
//! follows "Azure Container Registry integration with Azure Active Directory" (`AAD-OAuth.md` of
//! Azure/acr). It also fails and lies as told.

mod entra;
mod registry;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::federation::Trust;
use crate::https::{Certificate, HttpsListener};
use crate::registry::{RegistryTable, registry as table};
use crate::{DockerRegistry, OperatorKey, RegistryAuth, Signer};

pub const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
/// The one application of the tenant.
pub const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
pub const CLIENT_SECRET: &str = "canary~client.secret-8Q~x_2f";
/// What the double's tokens of Entra ID may be for.
pub const AUDIENCES: [&str; 2] =
    ["https://containerregistry.azure.net", "https://management.azure.com"];
/// The user name beside a token of the registry.
pub const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

/// One of the three requests that make a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `POST /{tenant}/oauth2/v2.0/token` of Entra ID.
    Login,
    /// `POST /oauth2/exchange` of the registry.
    Exchange,
    /// `POST /oauth2/token` of the registry.
    Token,
}

/// One received request of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRequest {
    pub step: Step,
    pub path: String,
    /// The fields in the order in which they were sent.
    pub form: Vec<(String, String)>,
}

impl StepRequest {
    /// The values of this field, usually one.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.form.iter().filter(|field| field.0 == name).map(|field| field.1.as_str()).collect()
    }
}

/// The certificate of the application, self-signed.
struct ApplicationCertificate {
    key: OperatorKey,
    pem: String,
    der: Vec<u8>,
}

impl ApplicationCertificate {
    fn new() -> Self {
        let key = OperatorKey::rsa();
        let pair = KeyPair::from_pem_and_sign_algo(&key.pem(), &PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::new(["rise-broker".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&pair).unwrap();
        Self { key, pem: certificate.pem(), der: certificate.der().to_vec() }
    }
}

/// A token of the double.
#[derive(Clone, Debug)]
struct MadeToken {
    step: Step,
    text: String,
    claims: Value,
}

/// Changes the claims of each token of a step before it is signed.
type Change = Box<dyn Fn(&mut Value) + Send>;

struct Shared {
    signer: Signer,
    certificate: ApplicationCertificate,
    /// What the federated credentials of the application have in common, and their subjects.
    trust: Mutex<Option<Trust>>,
    /// The addresses of Entra ID and of the registry.
    entra: String,
    registry: String,
    /// The registry behind it.
    images: DockerRegistry,
    received: Mutex<Vec<StepRequest>>,
    made: Mutex<Vec<MadeToken>>,
    instead: Mutex<BTreeMap<Step, (StatusCode, HeaderMap, String)>>,
    change: Mutex<Option<Change>>,
    /// The actions that the application's role has on every repository.
    role: Mutex<Vec<String>>,
    /// Whether it returns the refresh token in place of a token for the scope.
    returns_refresh_token: AtomicBool,
}

/// It runs on the test's runtime.
pub struct Azure {
    /// The certificate, for clients.
    folder: TempDir,
    shared: Arc<Shared>,
    servers: [JoinHandle<()>; 2],
}

impl fmt::Debug for Azure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Azure at {} and {}", self.shared.entra, self.shared.registry)
    }
}

impl Azure {
    /// Starts it. The application may do everything in the registry.
    pub async fn start() -> Self {
        let images = DockerRegistry::start(RegistryAuth::Anonymous).await;
        let (entra, registry) = (HttpsListener::bind().await, HttpsListener::bind().await);
        let shared = Arc::new(Shared {
            signer: Signer::new("acr"),
            certificate: ApplicationCertificate::new(),
            trust: Mutex::default(),
            entra: entra.host().to_owned(),
            registry: registry.host().to_owned(),
            images,
            received: Mutex::default(),
            made: Mutex::default(),
            instead: Mutex::default(),
            change: Mutex::default(),
            role: Mutex::new(vec!["*".to_owned()]),
            returns_refresh_token: AtomicBool::new(false),
        });
        let (certificate, folder) = (Certificate::new(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let servers = [
            entra.serve(&certificate, entra::router(Arc::clone(&shared))),
            registry.serve(&certificate, registry::router(Arc::clone(&shared))),
        ];
        Self { folder, shared, servers }
    }

    /// The login server, `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.shared.registry
    }

    /// The origin of Entra ID.
    pub fn authority_host(&self) -> String {
        format!("https://{}", self.shared.entra)
    }

    /// The authority that clients must trust, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A registry of the broker, with repositories below `team/`.
    pub fn table(&self) -> RegistryTable {
        table("azure")
            .with("registry_url", self.host())
            .with("namespace", "team")
            .with("tenant_id", TENANT)
            .with("client_id", CLIENT_ID)
            .with("client_secret", CLIENT_SECRET)
            .with("authority_host", self.authority_host())
            .with("trust_provider", true)
            .ceiling(&format!("private = true\nca_file = \"{}\"", self.ca_file().display()))
    }

    /// The same, whose application logs in with its certificate.
    pub fn table_with_certificate(&self) -> RegistryTable {
        self.table()
            .without("client_secret")
            .with("private_key", self.shared.certificate.key.pem())
            .with("certificate_sha256", self.fingerprint())
    }

    /// The same, whose application has federated credentials for this issuer and these subjects,
    /// and no secret.
    pub fn table_with_trust(&self, trust: Trust) -> RegistryTable {
        let table = self.table().without("client_secret").with("audience", &*trust.audience);
        *self.shared.trust.lock().unwrap() = Some(trust);
        table
    }

    /// SHA-256 of the application's certificate, as openssl prints it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.shared.certificate.der);
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// The application's certificate and its key, in PEM.
    pub fn certificate_and_key(&self) -> String {
        let certificate = &self.shared.certificate;
        format!("{}{}", certificate.key.pem(), certificate.pem)
    }

    /// Answers every later request of this step like this. `{form}` in the body stands for what the
    /// request had in its form, last first.
    pub fn answer(&self, step: Step, status: u16, headers: &[(&'static str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        });
        let answer = (StatusCode::from_u16(status).unwrap(), headers.collect(), body.to_owned());
        self.shared.instead.lock().unwrap().insert(step, answer);
    }

    /// Answers every later request as the cloud does.
    pub fn usual(&self) {
        self.shared.instead.lock().unwrap().clear();
    }

    /// Changes the claims of each later registry token before it is signed.
    pub fn lie(&self, change: impl Fn(&mut Value) + Send + 'static) {
        *self.shared.change.lock().unwrap() = Some(Box::new(change));
    }

    /// Returns the refresh token in place of each later token for a scope.
    pub fn return_refresh_tokens(&self) {
        self.shared.returns_refresh_token.store(true, Ordering::Relaxed);
    }

    /// Rejects the tokens that it has made so far.
    pub fn forget(&self) {
        self.shared.made.lock().unwrap().iter_mut().for_each(|token| token.claims = Value::Null);
    }

    /// Limits what the application may do, as a role does: `["pull"]` is `AcrPull`.
    pub fn role(&self, actions: &[&str]) {
        *self.shared.role.lock().unwrap() = actions.iter().map(ToString::to_string).collect();
    }

    /// The requests of the three steps so far.
    pub fn received(&self) -> Vec<StepRequest> {
        self.shared.received.lock().unwrap().clone()
    }

    /// What no output may contain: each token that opens more than a scope, the client secret,
    /// assertions, and the key of the certificate.
    pub fn secrets(&self) -> Vec<String> {
        let made = self.shared.made.lock().unwrap();
        let wide = made.iter().filter(|token| token.step != Step::Token);
        let wide = wide.map(|token| token.text.clone());
        let received = self.shared.received.lock().unwrap();
        let assertions = received.iter().flat_map(|request| request.all("client_assertion"));
        let assertions = assertions.map(str::to_owned);
        let key = self.shared.certificate.key.canaries();
        wide.chain([CLIENT_SECRET.to_owned()]).chain(assertions).chain(key).collect()
    }

    /// The tokens for scopes that it made so far.
    pub fn tokens(&self) -> Vec<String> {
        let made = self.shared.made.lock().unwrap();
        let narrow = made.iter().filter(|token| token.step == Step::Token);
        narrow.map(|token| token.text.clone()).collect()
    }
}

impl Drop for Azure {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    /// Records the request. Returns the answer that a test has set.
    fn receive(&self, step: Step, path: &str, body: &[u8]) -> (StepRequest, Option<Response>) {
        let form = url::form_urlencoded::parse(body).into_owned().collect();
        let request = StepRequest { step, path: path.to_owned(), form };
        self.received.lock().unwrap().push(request.clone());
        let instead = self.instead.lock().unwrap().get(&step).cloned();
        let instead = instead.map(|(status, headers, body)| {
            let values: Vec<&str> = request.form.iter().rev().map(|it| it.1.as_str()).collect();
            let mut response = Response::new(Body::from(body.replace("{form}", &values.join(" "))));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            response
        });
        (request, instead)
    }

    /// Signs these claims, for so many seconds from now.
    fn make(&self, step: Step, seconds: i64, claims: &Value) -> String {
        let now = Timestamp::now().as_second();
        let id = format!("{step:?}-{}", self.made.lock().unwrap().len());
        let mut all = json!({ "jti": id, "nbf": now, "iat": now, "exp": now + seconds });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        if step == Step::Token
            && let Some(change) = &*self.change.lock().unwrap()
        {
            change(&mut all);
        }
        let text = self.signer.sign(&all);
        self.made.lock().unwrap().push(MadeToken { step, text: text.clone(), claims: all });
        text
    }

    /// The claims of a token of this step that has not expired.
    fn known(&self, step: Step, text: &str) -> Option<Value> {
        let made = self.made.lock().unwrap();
        let token = made.iter().find(|token| token.step == step && token.text == text)?;
        let left = token.claims["exp"].as_i64()? - Timestamp::now().as_second();
        (left > 0).then(|| token.claims.clone())
    }
}
