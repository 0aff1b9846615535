//! The broker as a process: the real binary on ports of its own, with its log to read.

use jiff::SignedDuration;
use rise_broker::domain::Clock;
use rise_broker::identity::LocalIssuer;
use rise_broker::identity::local::TokenRequest;
use serde_json::Value;

use crate::broker::{AUDIENCE, AUTH, Settings, binary};
use crate::loopback::{Answered, Client};
use crate::process::{PeerCommand, Port, Process};

/// A running `rise-broker serve`. Dropping it kills it.
pub struct RunningBroker {
    process: Process,
    settings: Settings,
    client: Client,
    url: String,
    admin: String,
    _admin_port: Port,
}

impl RunningBroker {
    /// With [`AUTH`] and these registries, logging at `level` as JSON.
    pub async fn start(registries: &str, level: &str) -> Self {
        let settings = Settings::new(&format!("{AUTH}\n{registries}"), &[]);
        let (port, admin_port) = (Port::free(), Port::free());
        let (url, admin) = (port.url(), admin_port.url());
        let address = |port: &Port| format!("127.0.0.1:{}", port.number());
        let command = PeerCommand::new(binary())
            .argument("serve")
            .argument("--config-dir")
            .argument(settings.config_directory().display().to_string())
            .variable("RISE_SERVER__LISTEN", address(&port))
            .variable("RISE_SERVER__ADMIN_LISTEN", address(&admin_port))
            .variable("RISE_LOG__LEVEL", level)
            .variable("RISE_LOG__FORMAT", "json");
        let ready = format!("{url}/api/v1/openapi.json");
        let process = Process::start("rise-broker", command, port, &ready).await;
        Self { process, settings, client: Client::new(), url, admin, _admin_port: admin_port }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A token of the built-in issuer.
    pub fn token(&self, claims: &Value) -> String {
        let issuer = LocalIssuer::open_or_create(&self.settings.path("issuer.pem")).unwrap();
        let request = TokenRequest {
            subject: "ci".to_owned(),
            audience: AUDIENCE.to_owned(),
            claims: claims.as_object().cloned().unwrap_or_default(),
            lifetime: SignedDuration::from_hours(1),
        };
        issuer.mint(request, Clock::system().now()).unwrap().expose().to_owned()
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Answered {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
        self.client.get_with(&format!("{}{path}", self.url), &headers).await
    }

    /// `/metrics`, as text.
    pub async fn metrics(&self) -> String {
        self.client.get(&format!("{}/metrics", self.admin)).await.text()
    }

    /// Everything it has written to its log.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
