//! Debian's PostgreSQL 15, to which tests ship the audit log.
//!
//! PostgreSQL does not run as root, so a test that does starts it as another user of the machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use crate::eventually_blocking;
use crate::process::{PeerCommand, Port, Process};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const OWNER: &str = "owner";
const OWNER_PASSWORD: &str = "owner-password-4711";
/// The role of the broker.
const SHIPPER: &str = "rise_ship";
const SHIPPER_PASSWORD: &str = "ship-password-0815";
const DATABASE: &str = "audit";
/// Users that Debian has.
const OTHER_USERS: [&str; 2] = ["postgres", "nobody"];

/// A server with one database, its owner, and a role that may connect.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    /// The user and group that run it. `None`: those of the test.
    user: Option<(u32, u32)>,
    /// Data, sockets, certificates. It stays when the server is started again.
    directory: TempDir,
    port: Port,
    has_tls: bool,
}

impl Postgres {
    /// # Panics
    /// If it is not installed (`make peers`) or does not start.
    pub async fn start() -> Self {
        Self::with(false).await
    }

    /// Starts one with a certificate for 127.0.0.1, which [`Postgres::ca_file`] signed.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub async fn with_tls() -> Self {
        Self::with(true).await
    }

    async fn with(has_tls: bool) -> Self {
        let directory = tempfile::Builder::new().prefix("rise-postgres-").tempdir().unwrap();
        let user = geteuid().is_root().then(other_user);
        let mut server = Self { process: None, user, directory, port: Port::free(), has_tls };
        server.give(server.directory.path());
        server.initialize();
        if has_tls {
            server.certify();
        }
        server.start_again().await;
        server.create_roles().await;
        server
    }

    /// Gives a file or folder to the user that runs it.
    ///
    /// # Panics
    /// If that is forbidden.
    pub fn give(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.give(&path);
        path
    }

    /// The words before a program that must not run as root.
    fn as_user(&self) -> Vec<String> {
        let Some((user, group)) = self.user else { return Vec::new() };
        let (user, group) = (user.to_string(), group.to_string());
        let words = ["setpriv", "--reuid", &user, "--regid", &group, "--clear-groups", "--"];
        words.map(ToOwned::to_owned).into()
    }

    fn initialize(&self) {
        let password = self.file("password", OWNER_PASSWORD);
        let mut words = self.as_user();
        words.push(program("initdb").display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--pgdata").arg(self.directory.path().join("data"));
        command.args(["--username", OWNER, "--auth", "scram-sha-256", "--encoding", "UTF8"]);
        command.args(["--locale", "C", "--no-sync", "--pwfile"]).arg(password);
        let output = command.current_dir(self.directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn certify(&self) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        self.file("server.crt", &certificate.pem());
        self.file("server.key", &key.serialize_pem());
    }

    /// The authority of its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    /// Starts it with the data that it had.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub async fn start_again(&mut self) {
        let directory = self.directory.path().display().to_string();
        let mut words = self.as_user();
        words.push(program("postgres").display().to_string());
        // An absolute path stays as it is.
        let mut command = PeerCommand::system(&words[0]);
        for word in &words[1..] {
            command = command.argument(word);
        }
        command = command.argument("-D").argument(format!("{directory}/data"));
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port.number()),
            format!("unix_socket_directories={directory}"),
            "fsync=off".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "max_connections=40".to_owned(),
        ];
        if self.has_tls {
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={directory}/server.crt"));
            settings.push(format!("ssl_key_file={directory}/server.key"));
        }
        for setting in settings {
            command = command.argument("-c").argument(setting);
        }
        let config = self.config(OWNER, OWNER_PASSWORD, "postgres");
        let answers = async || config.connect(NoTls).await.is_ok();
        let process = Process::start_until("postgres", command, Port::free(), answers).await;
        self.process = Some(process);
    }

    async fn create_roles(&self) {
        let client = connect(&self.config(OWNER, OWNER_PASSWORD, "postgres")).await;
        let role = format!("CREATE ROLE {SHIPPER} LOGIN PASSWORD '{SHIPPER_PASSWORD}'");
        client.batch_execute(&role).await.unwrap();
        client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.unwrap();
    }

    fn config(&self, user: &str, password: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port.number());
        config.user(user).password(password).dbname(database);
        config
    }

    /// A connection of the owner.
    pub async fn owner(&self) -> Client {
        connect(&self.config(OWNER, OWNER_PASSWORD, DATABASE)).await
    }

    /// A connection with the rights of the broker.
    pub async fn shipper(&self) -> Client {
        connect(&self.config(SHIPPER, SHIPPER_PASSWORD, DATABASE)).await
    }

    pub fn owner_url(&self) -> String {
        format!("postgresql://{OWNER}@127.0.0.1:{}/{DATABASE}", self.port.number())
    }

    /// The owner's URL over the socket. `host` turns the path of its folder into a parameter.
    pub fn socket_url(&self, user: &str, host: impl Fn(&str) -> String) -> String {
        let (folder, port) = (self.directory.path().display().to_string(), self.port.number());
        format!("postgresql:///{DATABASE}?host={}&port={port}&user={user}", host(&folder))
    }

    /// The passwords of both roles.
    pub fn passwords(&self) -> [&'static str; 2] {
        [OWNER_PASSWORD, SHIPPER_PASSWORD]
    }

    /// The table `[audit.ship.postgres]`, to which more keys can be added.
    pub fn settings(&self) -> String {
        let port = self.port.number();
        format!(
            "[audit.ship.postgres]\nurl = 'postgresql://{SHIPPER}@127.0.0.1:{port}/{DATABASE}'\n\
             password = '{SHIPPER_PASSWORD}'\ntls = {}\n",
            self.has_tls
        )
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills it with all its processes, and waits until they have ended.
    pub fn kill(&mut self) {
        let Some(process) = self.process.take() else { return };
        // Each process that serves a connection is a session of its own.
        let children = children(process.id());
        drop(process);
        for child in &children {
            let _ = kill_process(pid(*child), Signal::KILL);
        }
        let is_there = |child: &u32| Path::new(&format!("/proc/{child}")).exists();
        eventually_blocking("its processes have ended", || !children.iter().any(is_there));
    }

    /// It answers nobody until [`Postgres::go_on`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().map(Process::id).unwrap();
        for process in children(id).into_iter().chain([id]) {
            let _ = kill_process(pid(process), signal);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// The processes that it started.
fn children(id: u32) -> Vec<u32> {
    let path = format!("/proc/{id}/task/{id}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

async fn connect(config: &Config) -> Client {
    let (client, driver) = config.connect(NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

fn program(name: &str) -> PathBuf {
    let path = Path::new(PROGRAMS).join(name);
    assert!(path.exists(), "run `make peers` first: {} is missing", path.display());
    path
}

/// The numbers of a user of this machine that is not root, and of its group.
fn other_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut words = line.split(':').skip(2);
        let mut number = || words.next()?.parse().ok();
        Some((number()?, number()?))
    };
    OTHER_USERS.into_iter().find_map(find).expect("a user that is not root")
}
