//! Debian's docker-registry (Distribution 2.8), to which tests push images.

use std::fs;
use std::path::Path;

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

/// Whose tokens a registry trusts.
#[derive(Clone, Copy, Debug)]
pub struct TokenTrust<'a> {
    /// The URL of the token server.
    pub realm: &'a str,
    pub service: &'a str,
    pub issuer: &'a str,
    /// Certificates in PEM.
    pub certificates: &'a str,
}

impl TokenTrust<'_> {
    fn settings(&self, directory: &Path) -> String {
        let bundle = directory.join("bundle.pem");
        fs::write(&bundle, self.certificates).unwrap();
        let Self { realm, service, issuer, .. } = self;
        format!(
            "auth:\n  token: {{ realm: '{realm}', service: '{service}', issuer: '{issuer}', \
             rootcertbundle: '{}' }}\n",
            bundle.display()
        )
    }
}

impl RegistryAuth {
    fn settings(self, directory: &Path) -> String {
        let htpasswd = directory.join("htpasswd");
        let line = if self == Self::Second { SECOND_LINE } else { DEMO_LINE };
        fs::write(&htpasswd, line).unwrap();
        match self {
            Self::Anonymous => String::new(),
            Self::Htpasswd | Self::Second => {
                format!("auth: {{ htpasswd: {{ realm: test, path: '{}' }} }}\n", htpasswd.display())
            }
        }
    }
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
        Self::start_on(Port::free(), |directory| auth.settings(directory)).await
    }

    /// Starts one on this port that trusts the tokens of an issuer.
    ///
    /// # Panics
    /// As [`DockerRegistry::start`].
    pub async fn trusting(port: Port, trust: &TokenTrust<'_>) -> Self {
        Self::start_on(port, |directory| trust.settings(directory)).await
    }

    /// `auth` writes the files that it needs into a folder and returns its part of the settings.
    async fn start_on(port: Port, auth: impl FnOnce(&Path) -> String) -> Self {
        let host = format!("127.0.0.1:{}", port.number());
        let command = PeerCommand::system("docker-registry");
        let directory = command.directory().display().to_string();
        let auth = auth(command.directory());
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
