//! Debian's docker-registry (Distribution 2.8), to which tests push images.

use std::fs;

use crate::process::{PeerCommand, Port, Process};

/// The one account of [`RegistryAuth::Htpasswd`].
pub const DEMO_USER: &str = "demo";
pub const DEMO_PASSWORD: &str = "demo-password";

/// The password of [`RegistryAuth::Second`]'s account.
pub const SECOND_PASSWORD: &str = "second-password";

const SECOND_LINE: &str = "demo:$2y$05$abcdefghijklmnopqrstuuQQ3svipWaDLu5Kgwa3hvLrUP0FshBnK\n";

/// The bcrypt hash of [`DEMO_PASSWORD`] at the lowest cost: it protects only a registry on
/// 127.0.0.1.
const DEMO_LINE: &str = include_str!("../../deploy/development/htpasswd");

/// Who may use the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryAuth {
    Anonymous,
    /// [`DEMO_USER`] with [`DEMO_PASSWORD`], by Basic authentication.
    Htpasswd,
    /// [`DEMO_USER`] with [`SECOND_PASSWORD`], so that the password of one registry does not open
    /// the other.
    Second,
}

/// An empty registry that speaks plain http, which clients allow for loopback only when they are
/// told to.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Process,
    host: String,
}

impl DockerRegistry {
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start(auth: RegistryAuth) -> Self {
        let port = Port::free();
        let host = format!("127.0.0.1:{}", port.number());
        let command = PeerCommand::system("docker-registry");
        let directory = command.directory().display().to_string();
        let htpasswd = command.directory().join("htpasswd");
        let line = if auth == RegistryAuth::Second { SECOND_LINE } else { DEMO_LINE };
        fs::write(&htpasswd, line).unwrap();
        let auth = match auth {
            RegistryAuth::Anonymous => String::new(),
            RegistryAuth::Htpasswd | RegistryAuth::Second => {
                format!("auth: {{ htpasswd: {{ realm: test, path: '{}' }} }}\n", htpasswd.display())
            }
        };
        let settings = command.directory().join("registry.yml");
        let text = format!(
            "version: 0.1\n\
             log: {{ level: info }}\n\
             storage:\n  filesystem: {{ rootdirectory: '{directory}/images' }}\n\
             \x20 delete: {{ enabled: true }}\n\
             http: {{ addr: '{host}' }}\n\
             {auth}"
        );
        fs::write(&settings, text).unwrap();
        let command = command.argument("serve").argument(settings.display().to_string());
        let process =
            Process::start("docker-registry", command, port, &format!("http://{host}/v2/")).await;
        Self { process, host }
    }

    /// Replaces the account's password. The registry checks the file's time at each login.
    pub fn change_password(&self, auth: RegistryAuth) {
        let line = if auth == RegistryAuth::Second { SECOND_LINE } else { DEMO_LINE };
        fs::write(self.process.directory().join("htpasswd"), line).unwrap();
    }

    /// The host and port, as in an image reference.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}
