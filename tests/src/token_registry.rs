//! A broker that signs, and a docker-registry that trusts it and sends its clients there.

use std::fmt::Display;

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker::keys::{KeySet, SigningKind};

use crate::process::Port;
use crate::registry::{RegistryTable, distribution};
use crate::{
    AUTH, DockerRegistry, Installation, Listening, Serving, Settings, TestBroker, TokenTrust,
    repository,
};

/// A broker that signs as `https://broker.example.com`.
pub const SIGNING: &str = "[signing]\nissuer = \"https://broker.example.com\"\n\
                           key_file = \"@STATE@/signing-keys.pem\"\n";

/// Both, each at a port of its own. Images of the registry `prod` lie below `rise/apps`.
pub struct TokenRegistry {
    pub broker: TestBroker,
    pub listening: Listening,
    pub registry: DockerRegistry,
    settings: String,
}

impl TokenRegistry {
    /// # Panics
    /// If one of them does not start.
    pub async fn start() -> Self {
        Box::pin(Self::start_with("", |table| table)).await
    }

    /// `more` are lines of `[signing]`, and `change` changes the registry's table.
    ///
    /// # Panics
    /// If one of them does not start.
    pub async fn start_with(
        more: impl Display,
        change: impl FnOnce(RegistryTable) -> RegistryTable,
    ) -> Self {
        Self::start_at(Clock::system(), more, change).await
    }

    /// The same with a broker whose clock differs from the registry's.
    ///
    /// # Panics
    /// If one of them does not start.
    pub async fn start_at(
        clock: Clock,
        more: impl Display,
        change: impl FnOnce(RegistryTable) -> RegistryTable,
    ) -> Self {
        let port = Port::free();
        let host = format!("127.0.0.1:{}", port.number());
        let table = change(distribution(&host).with("namespace", "rise/apps"));
        let text = format!("{AUTH}{SIGNING}{more}\n{table}");
        let settings = Settings::new(&text).provider("distribution");
        let broker = TestBroker::with_settings(settings).clock(clock).start().await;
        let listening = broker.listen(None).await;
        let realm = format!("http://{}/token", listening.address);
        let signing = broker.generation.signing.as_ref().unwrap();
        let trust = TokenTrust {
            realm: &realm,
            service: &host,
            issuer: signing.issuer(),
            certificates: &signing.certificates(),
        };
        let registry = DockerRegistry::trusting(port, &trust).await;
        Self { broker, listening, registry, settings: text }
    }

    /// Rotates the keys and lets the broker notice.
    ///
    /// # Panics
    /// If that fails.
    pub async fn rotate(&self) {
        let (path, now) = (self.broker.settings.path("signing-keys.pem"), Clock::system().now());
        let (kind, overlap) = (SigningKind::Rsa(2048), SignedDuration::from_hours(12));
        KeySet::rotate(&path, kind, now, overlap, true).unwrap();
        self.broker.reload(&self.settings).await;
    }

    /// `http://127.0.0.1:PORT` of the broker.
    pub fn url(&self) -> String {
        format!("http://{}", self.listening.address)
    }

    /// The image of a project with this tag.
    pub fn image(&self, project: &str, tag: &str) -> String {
        format!("{}/rise/apps/{project}:{tag}", self.registry.host())
    }
}

/// The same with the broker's program, as an operator runs it.
pub struct TokenInstallation {
    pub installation: Installation,
    pub broker: Serving,
    pub registry: DockerRegistry,
}

impl TokenInstallation {
    /// `more` are lines of `[signing]`. `prepare` changes the folder before the start.
    ///
    /// # Panics
    /// If one of them does not start.
    pub async fn start(
        auth: impl Display,
        more: impl Display,
        prepare: impl FnOnce(&mut Installation),
    ) -> Self {
        let port = Port::free();
        let host = format!("127.0.0.1:{}", port.number());
        let table = distribution(&host);
        let mut installation = Installation::new(format!("{auth}{SIGNING}{more}\n{table}"));
        let component = repository().join("dist/providers/distribution.wasm");
        installation.provider(&component, "distribution");
        installation.unlimited();
        prepare(&mut installation);
        let broker = installation.serve();
        let certificates = installation.run(&["keys", "certificate"]);
        assert_eq!(certificates.code, Some(0), "{}", certificates.stderr);
        let trust = TokenTrust {
            realm: &format!("{}/token", broker.url),
            service: &host,
            issuer: "https://broker.example.com",
            certificates: &certificates.stdout,
        };
        let registry = DockerRegistry::trusting(port, &trust).await;
        Self { installation, broker, registry }
    }

    /// The URL of a token with this scope.
    pub fn token_url(&self, scope: &str) -> String {
        let (url, service) = (&self.broker.url, self.registry.host());
        format!("{url}/token?service={service}&scope={scope}")
    }
}
