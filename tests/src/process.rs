//! A child process that serves a port: started, waited for, and certainly stopped.
//!
//! **Invariant:** no peer outlives the test process. A small watcher beside the peer holds the read
//! end of a pipe. When the write end in this process closes (drop, panic, SIGKILL), the watcher
//! kills the peer.

mod port;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

pub use self::port::Port;

use crate::loopback::Client;

/// How long a peer may take to its first answer. It takes 0.3 to 2 s on two idle cores.
const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// How many lines of a peer's output a failing test prints.
const TAIL_LINES: usize = 30;

/// This script becomes the peer (by `exec`, so that the process id is the peer's own) and leaves
/// the watcher beside it.
pub(crate) const WATCHED: &str =
    r#"exec 3<&0; { read -r _ <&3; kill -KILL $$; } & exec "$@" 3<&- </dev/null"#;

/// One running peer. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    directory: TempDir,
    _port: Port,
}

impl Process {
    /// Starts `command` on `port` without this machine's environment, and waits until `url` answers
    /// 2xx or 401.
    ///
    /// # Panics
    /// If it exits or does not answer within 30 s. The message ends with the peer's output.
    pub async fn start(name: &'static str, command: PeerCommand, port: Port, url: &str) -> Self {
        let client = Client::new();
        let answers = async || {
            let answered = client.try_get(url).await;
            answered.is_ok_and(|answered| answered.status < 300 || answered.status == 401)
        };
        Self::start_until(name, command, port, answers).await
    }

    /// The same for a peer that does not speak HTTP: waits until `answers`.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub async fn start_until(
        name: &'static str,
        command: PeerCommand,
        port: Port,
        answers: impl AsyncFnMut() -> bool,
    ) -> Self {
        let PeerCommand { program, arguments, environment, directory } = command;
        let log = File::create(directory.path().join("output.log")).unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", WATCHED, name])
            .arg(&program)
            .args(arguments)
            .env_clear()
            .envs(standard_environment(directory.path()))
            .envs(environment)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let mut process = Self { name, child, directory, _port: port };
        process.wait_until_it_answers(answers).await;
        process
    }

    /// Its output so far.
    pub fn output(&self) -> String {
        let mut bytes = Vec::new();
        File::open(self.directory.path().join("output.log"))
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its folder, which is removed with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The peer's own process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    async fn wait_until_it_answers(&mut self, mut answers: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status} before it answered:\n{}", self.name, self.tail());
            }
            if answers().await {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not answer in {START:?}:\n{}",
                self.name,
                self.tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<_> = output.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The watcher keeps the group, and with it the number, alive even if the peer has
            // ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the last lines of {}:\n{}", self.name, self.tail());
        }
    }
}

/// A program to run, and the folder that it may write to.
#[derive(Debug)]
pub struct PeerCommand {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: TempDir,
}

impl PeerCommand {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let directory = tempfile::Builder::new().prefix("rise-peer-").tempdir().unwrap();
        Self { program: program.into(), arguments: Vec::new(), environment: Vec::new(), directory }
    }

    /// A program of the peers' Python environment.
    ///
    /// # Panics
    /// With the words `run "make peers" first` if the environment is missing.
    pub fn python(program: &str) -> Self {
        Self::new(python_program("venv", program))
    }

    /// A program of the system.
    ///
    /// # Panics
    /// As [`PeerCommand::python`].
    pub fn system(program: &str) -> Self {
        Self::new(find_program(program))
    }

    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The folder that `setup.sh` fills: `target/peers` of this repository, independent of
/// `CARGO_TARGET_DIR`.
pub fn peers_directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers");
    fs::canonicalize(&directory)
        .unwrap_or_else(|_| panic!("run `make peers` first: {} is missing", directory.display()))
}

/// A program of one of the Python environments that `setup.sh` makes.
///
/// # Panics
/// As [`PeerCommand::python`].
pub fn python_program(environment: &str, program: &str) -> PathBuf {
    let environment = peers_directory().join(environment);
    let path = environment.join("bin").join(program);
    // setup.sh writes this file last: without it the environment is incomplete.
    let complete = environment.join("installed.txt").exists() && path.exists();
    assert!(complete, "run `make peers` first: {} is missing", path.display());
    path
}

pub(crate) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn find_program(program: &str) -> PathBuf {
    SYSTEM_PATH
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("run `make peers` first: no {program} in {SYSTEM_PATH}"))
}

/// The environment of a child. It leaves out this machine's proxies, CA bundles (`AWS_CA_BUNDLE`,
/// `SSL_CERT_FILE` …) and AWS settings.
pub(crate) fn standard_environment(home: &Path) -> [(&'static str, String); 5] {
    let home = home.display().to_string();
    [
        ("PATH", SYSTEM_PATH.into()),
        ("HOME", home.clone()),
        ("TMPDIR", home),
        ("LANG", "C.UTF-8".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "run `make peers` first")]
    fn a_missing_peer_says_what_to_do() {
        drop(PeerCommand::python("no-such-peer"));
    }

    #[test]
    #[should_panic(expected = "run `make peers` first")]
    fn a_missing_system_program_says_what_to_do() {
        drop(PeerCommand::system("no-such-peer"));
    }

    #[tokio::test]
    #[should_panic(expected = "No such file")]
    async fn a_peer_that_cannot_start_shows_its_output() {
        let port = Port::free();
        let url = port.url();
        let command = PeerCommand::system("ls").argument("/no-such-directory");
        Process::start("ls", command, port, &url).await;
    }

    #[test]
    fn two_ports_differ_while_both_are_held() {
        let (one, two) = (Port::free(), Port::free());
        assert_ne!(one.number(), two.number());
    }
}
