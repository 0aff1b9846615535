//! Reads files, opens sockets and resolves names, so it imports `wasi:filesystem` and
//! `wasi:sockets`. It is loaded only with `wasi = "stubbed"`, and must find nothing then. It logs
//! what it found.

#![allow(clippy::disallowed_methods, reason = "it looks for what it must not find")]

use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use rise_provider::{Credential, Error, Grant, Issued, Location, Problem, Provider, Scope, log};
use schemars::JsonSchema;
use serde::Deserialize;

struct WantsFilesystem;

rise_provider::export_provider!(WantsFilesystem);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
    /// A server that listens.
    server: Option<String>,
}

impl Provider for WantsFilesystem {
    type Settings = Settings;

    const NAME: &'static str = "wants-filesystem";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Imports what providers have no use for";

    fn check(_: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(Scope::None)
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.registry_url).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, _: &Grant) -> Result<Issued, Error> {
        let server = settings.server.as_deref().unwrap_or("127.0.0.1:1");
        let written = std::fs::write("/tmp/rise-broker-wants-filesystem", "seen");
        for (what, saw) in [
            ("read", std::fs::read("/etc/passwd").is_ok()),
            ("list", std::fs::read_dir("/").is_ok() || std::fs::read_dir(".").is_ok()),
            ("write", written.is_ok()),
            ("connect", TcpStream::connect(server).is_ok()),
            ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
            ("datagrams", UdpSocket::bind("127.0.0.1:0").is_ok()),
            ("names", ("localhost", 80).to_socket_addrs().is_ok()),
            ("variables", std::env::vars().next().is_some()),
            ("arguments", std::env::args().next().is_some()),
            ("input", std::io::stdin().lines().next().is_some_and(|it| it.is_ok())),
        ] {
            log::warn(&format!("{what}: {saw}"));
        }
        Ok(Issued { credential: Credential::ClientAuth, expires_at: None })
    }
}
