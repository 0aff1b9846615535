//! The broker in process: real settings, real compiled components, the built-in issuer, no socket.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use rise_broker::audit::{Disk, Folder};
use rise_broker::broker::Broker;
use rise_broker::config::node::Problem;
use rise_broker::config::{Config, Environment};
use rise_broker::domain::Clock;
use rise_broker::generation::Generation;
use rise_broker::http;
use rise_broker::http::listen::Tls;
use rise_broker::identity::LocalIssuer;
use rise_broker::identity::local::TokenRequest;
use rise_broker::process::{Process, Surroundings};
use rise_broker::provider::compile::{Bounds, Compiler};
use rise_broker::registries::{ConnectAws, Sdk};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::FakeDisk;
use crate::wire::Listening;

/// The `aud` of every test's tokens.
pub const AUDIENCE: &str = "rise-registry";

/// Settings that let the built-in issuer's tokens with `repository = "acme/<project>"` pull and push in every registry named
/// `prod`, with `role = "reader"` only pull. Put registries behind it.
pub const AUTH: &str = r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "local"
key_file = "@STATE@/issuer.pem"
[[rules]]
name = "ci"
issuer = "local"
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
[[rules]]
name = "readers"
issuer = "local"
claims = { role = "reader" }
projects = ["*"]
registries = ["prod"]
allow = ["pull"]
"#;

const RAISED: &str = "[limits]\nin_flight = 10000\naddress = { per_second = 100000, burst = 100000 }\nsubject = { per_second = 100000, burst = 100000 }\nproject = { per_second = 100000, burst = 100000 }\nregistry = { in_flight = 1000, per_second = 100000, burst = 100000 }\n";

/// A folder of settings with the real providers, and the named guests of `tests/guests`, beside it.
pub struct Settings {
    directory: TempDir,
}

impl Settings {
    /// `@STATE@` in `text` stands for a folder of this test's own.
    pub fn new(text: &str, guests: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let settings = Self { directory };
        let providers = settings.path("providers");
        fs::create_dir(&providers).unwrap();
        for name in ["ecr", "oci"] {
            install(&repository().join("dist/providers").join(format!("{name}.wasm")), &providers);
        }
        for name in guests {
            install(&target().join("guests").join(format!("{name}.wasm")), &providers);
        }
        fs::create_dir(settings.path("config")).unwrap();
        let shown = |path: &Path| path.display().to_string();
        // Compiled code is shared between tests: each would compile the same components again.
        let compiled = target().join("test-state");
        let server = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nstate_directory = {:?}\n[providers]\ndirectory = {:?}\n[audit]\ndirectory = {:?}\n",
            shown(&compiled),
            shown(&providers),
            shown(&settings.path("audit")),
        );
        // One subject asks for everything in most tests: its limit is a matter of its own tests.
        let limits = if text.contains("[limits]") { "" } else { RAISED };
        let text =
            format!("{server}\n{limits}\n{text}").replace("@STATE@", &shown(&settings.path("")));
        fs::write(settings.path("config/default.toml"), text).unwrap();
        settings
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A layer above: for tables that [`Settings::new`] has stated, such as `[server]`.
    #[must_use]
    pub fn layer(self, text: &str) -> Self {
        fs::write(self.path("config/local.toml"), text).unwrap();
        self
    }

    pub fn config_directory(&self) -> PathBuf {
        self.path("config")
    }

    pub fn config(&self, environment: &Environment) -> Result<Config, Vec<Problem>> {
        Config::load(&self.config_directory(), environment)
    }

    /// A token of the built-in issuer that may pull and push `project`, for a broker in a process of its own.
    pub fn token_for(&self, project: &str) -> String {
        let issuer = LocalIssuer::open_or_create(&self.path("issuer.pem")).unwrap();
        mint(&issuer, &serde_json::json!({ "repository": format!("acme/{project}") }))
    }
}

/// The real world, with the broker's binary as the program that compiles: this one is a test's.
pub fn surroundings() -> Surroundings {
    let compiler = Compiler::Program(binary(), Bounds::default());
    Surroundings { compiler, ..Surroundings::real() }
}

fn install(file: &Path, directory: &Path) {
    let copied = fs::copy(file, directory.join(file.file_name().unwrap()));
    copied.unwrap_or_else(|error| {
        panic!("{}: {error}; run `make providers guests` first", file.display())
    });
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where cargo builds: this binary lies in `{target}/{profile}/deps`.
pub fn target() -> PathBuf {
    profile_directory().parent().unwrap().to_owned()
}

/// Where compiled code is kept between tests that need no broker.
pub fn compiled() -> PathBuf {
    let folder = target().join("test-cache/conformance");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The broker's binary, as `make test` built it beside this one.
pub fn binary() -> PathBuf {
    beside("rise-broker", "rise-broker")
}

/// The program `rise-provider`, the tools of a provider's author.
pub fn kit_binary() -> PathBuf {
    beside("rise-provider", "rise-provider-kit")
}

/// A program of `package`, as `make test` built it beside this one.
pub(crate) fn beside(program: &str, package: &str) -> PathBuf {
    let binary = profile_directory().join(program);
    assert!(
        binary.exists(),
        "{} is missing; run `cargo build -p {package}` first",
        binary.display()
    );
    binary
}

fn profile_directory() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().to_owned()
}

pub struct TestBroker {
    pub process: Arc<Process>,
    pub generation: Arc<Generation>,
    pub settings: Settings,
    issuer: LocalIssuer,
    router: Router,
    admin: Router,
}

/// One whole answer.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Response {
    /// The body as JSON, `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// `access-denied` of `urn:rise:problem:access-denied`.
    pub fn problem(&self) -> Option<String> {
        let json = self.json();
        Some(json["type"].as_str()?.strip_prefix("urn:rise:problem:")?.to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl TestBroker {
    /// A broker with [`AUTH`] and these registries.
    pub async fn start(registries: &str) -> Self {
        Self::start_with(registries, &[]).await
    }

    /// The same with guests of `tests/guests` among its providers.
    pub async fn start_with(registries: &str, guests: &[&str]) -> Self {
        let started = Self::try_start(&format!("{AUTH}\n{registries}"), guests).await;
        started.unwrap_or_else(|problems| panic!("{}", lines(&problems)))
    }

    /// A broker on exactly these settings, or everything that is wrong with them.
    pub async fn try_start(text: &str, guests: &[&str]) -> Result<Self, Vec<Problem>> {
        Self::on(Settings::new(text, guests), &Environment::new()).await
    }

    pub async fn on(settings: Settings, environment: &Environment) -> Result<Self, Vec<Problem>> {
        logs::start();
        Self::on_aws(settings, environment, Arc::new(Sdk)).await
    }

    /// The same with another AWS.
    pub async fn on_aws(
        settings: Settings,
        environment: &Environment,
        aws: Arc<dyn ConnectAws>,
    ) -> Result<Self, Vec<Problem>> {
        Self::on_clock(settings, environment, aws, Clock::system()).await
    }

    /// The same at another time.
    pub async fn on_clock(
        settings: Settings,
        environment: &Environment,
        aws: Arc<dyn ConnectAws>,
        clock: Clock,
    ) -> Result<Self, Vec<Problem>> {
        logs::start();
        let config = settings.config(environment)?;
        let broker = Broker::build(config, Surroundings { clock, aws, ..surroundings() }).await?;
        Ok(Self::with(broker, settings))
    }

    /// The same with its audit log on `disk`.
    pub async fn on_disk(registries: &str, disk: &FakeDisk) -> Self {
        let settings = Settings::new(&format!("{AUTH}\n{registries}"), &[]);
        let config = settings
            .config(&Environment::new())
            .unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        let surroundings = Surroundings { disk: Some(Box::new(disk.clone())), ..surroundings() };
        let built = Broker::build(config, surroundings).await;
        let broker = built.unwrap_or_else(|problems| panic!("{}", lines(&problems)));
        Self::with(broker, settings)
    }

    fn with(broker: Broker, settings: Settings) -> Self {
        let issuer =
            LocalIssuer::open_or_create(&settings.path("issuer.pem")).expect("the issuer's key");
        let (router, admin) = (http::router(broker.clone()), http::admin_router(broker.clone()));
        let Broker { process, generation } = broker;
        Self { process, generation, settings, issuer, router, admin }
    }

    /// A token of the built-in issuer.
    pub fn token(&self, claims: &Value) -> String {
        mint(&self.issuer, claims)
    }

    /// A token that may pull and push `project`.
    pub fn token_for(&self, project: &str) -> String {
        self.token(&serde_json::json!({ "repository": format!("acme/{project}") }))
    }

    /// `GET /api/v1/registry/credentials?{query}`.
    pub async fn credentials(&self, token: &str, query: &str) -> Response {
        self.get(&format!("/api/v1/registry/credentials?{query}"), Some(token)).await
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Response {
        let request = Request::get(path);
        let request = token.into_iter().fold(request, |request, token| {
            request.header("authorization", format!("Bearer {token}"))
        });
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn send(&self, request: Request<Body>) -> Response {
        answer(&self.router, request).await
    }

    pub async fn admin(&self, path: &str) -> Response {
        answer(&self.admin, Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Serves what callers reach on a port of its own, until the answer is dropped.
    pub async fn listen(&self, tls: Option<&Tls>) -> Listening {
        let acceptor = tls.map(Tls::acceptor);
        Listening::start(self.router.clone(), self.process.edge.clone(), acceptor).await
    }

    /// Every audit record, in order.
    pub fn audit(&self) -> Vec<Value> {
        audit_text(&self.settings.path("audit"))
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn mint(issuer: &LocalIssuer, claims: &Value) -> String {
    let request = TokenRequest {
        subject: "ci".to_owned(),
        audience: AUDIENCE.to_owned(),
        claims: claims.as_object().cloned().unwrap_or_default(),
        lifetime: SignedDuration::from_hours(1),
    };
    issuer.mint(request, Clock::system().now()).unwrap().expose().to_owned()
}

async fn answer(router: &Router, request: Request<Body>) -> Response {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Response { status: parts.status, headers: parts.headers, text }
}

/// Every line of the segments in `directory`, in order, with a line break between segments.
pub fn audit_text(directory: &Path) -> String {
    let folder = Folder::new(directory.to_owned());
    let read = |name: &String| fs::read_to_string(directory.join(name)).unwrap();
    folder.segments().unwrap().iter().map(read).collect::<Vec<_>>().join("\n")
}

/// Problems as a person would see them.
pub fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Everything that this process has logged.
pub mod logs {
    use super::{Mutex, OnceLock, PoisonError, Write};

    static LINES: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();

    struct Buffer;

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let lines = LINES.get_or_init(Mutex::default);
            lines.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(super) fn start() {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(|| Buffer)
            .try_init();
    }

    /// All lines so far. Tests of one process share them: look for something that is your own, such as a request id.
    pub fn text() -> String {
        let lines =
            LINES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&lines).into_owned()
    }
}
