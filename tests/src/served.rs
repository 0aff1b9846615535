//! The broker's real binary as a process of its own, under `strace` where a test wants to see or kill it at a system call.

use std::path::Path;

use crate::process::{PeerCommand, Port, Process};
use crate::{Settings, audit_text, binary};

/// Running `rise-broker serve`. Dropping it kills it.
#[derive(Debug)]
pub struct Served {
    pub process: Process,
    url: String,
    admin: String,
    _port: Port,
}

impl Served {
    /// Returns when it answers on its admin listener. `strace` are arguments for `strace -f`; none: it runs alone.
    pub async fn start(settings: &Settings, strace: &[&str]) -> Self {
        let mut before = vec!["strace", "-f"];
        // Faster, but strace then does not count calls of a path.
        before.extend((!strace.contains(&"-P")).then_some("--seccomp-bpf"));
        before.extend(strace);
        Self::run(settings, if strace.is_empty() { &[] } else { &before }).await
    }

    /// Under a program that needs the rights of root. `None`: this user does not have them.
    pub async fn start_in(settings: &Settings, before: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        Some(Self::run(settings, before).await)
    }

    async fn run(settings: &Settings, before: &[&str]) -> Self {
        let (public, admin) = (Port::free(), Port::free());
        let listens = |port: &Port| format!("127.0.0.1:{}", port.number());
        let own = [shown(&binary()), "serve".to_owned(), "--config-dir".to_owned()];
        let mut words = before.iter().map(|it| (*it).to_owned()).chain(own);
        let program = words.next().unwrap();
        let mut command = if before.is_empty() {
            PeerCommand::new(program)
        } else {
            PeerCommand::system(&program)
        };
        for argument in words.chain([shown(&settings.config_directory())]) {
            command = command.argument(argument);
        }
        let command = command
            .variable("RISE_SERVER__LISTEN", listens(&public))
            .variable("RISE_SERVER__ADMIN_LISTEN", listens(&admin));
        let (url, admin_url) = (public.url(), admin.url());
        let process =
            Process::start("rise-broker", command, admin, &format!("{admin_url}/healthz")).await;
        Self { process, url, admin: admin_url, _port: public }
    }

    pub fn credentials_url(&self, query: &str) -> String {
        format!("{}/api/v1/registry/credentials?{query}", self.url)
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }
}

/// `rise-broker` with these arguments: whether it succeeded, and all that it printed.
pub fn rise_broker(arguments: &[&str]) -> (bool, String) {
    let run = std::process::Command::new(binary()).args(arguments).output().unwrap();
    let text = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Every audit record of a broker with these settings, also while it runs.
pub fn audit_records(settings: &Settings) -> Vec<serde_json::Value> {
    audit_text(&settings.path("audit"))
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
