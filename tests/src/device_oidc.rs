//! npm's oidc-provider with the device flow. One request stands for the person who agrees in a
//! browser.

use std::path::Path;

use crate::loopback::Client;
use crate::process::{PeerCommand, Port, Process, peers_directory};

/// One issuer, with one public client.
#[derive(Debug)]
pub struct DeviceOidc {
    _process: Process,
    client: Client,
    issuer: String,
}

impl DeviceOidc {
    /// Starts it with the client `client_id`, whose ID tokens live for so many seconds. A refresh
    /// token is valid for one use.
    ///
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start(client_id: &str, seconds: u32) -> Self {
        let folder = peers_directory().join("oidc-provider");
        assert!(
            folder.join("installed.json").exists(),
            "run `make peers` first: {} is missing",
            folder.display()
        );
        let port = Port::free();
        let issuer = port.url();
        let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/oidc-provider/launch.mjs");
        let command = PeerCommand::system("node")
            .argument(launcher.display().to_string())
            .argument(folder.display().to_string())
            .argument(port.number().to_string())
            .argument(client_id)
            .argument(seconds.to_string());
        let discovery = format!("{issuer}/.well-known/openid-configuration");
        let process = Process::start("oidc-provider", command, port, &discovery).await;
        Self { _process: process, client: Client::new(), issuer }
    }

    /// `http://127.0.0.1:PORT`
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Lets `sub` open the page, log in, and agree to this code.
    pub async fn agree(&self, user_code: &str, sub: &str) {
        self.post(&format!("approve?user_code={user_code}&sub={sub}")).await;
    }

    pub async fn refuse(&self, user_code: &str) {
        self.post(&format!("deny?user_code={user_code}")).await;
    }

    async fn post(&self, path: &str) {
        self.client.post_form(&format!("{}/{path}", self.issuer), &[], &[]).await.accepted();
    }
}
