//! The broker's binary as an operator runs it: in a folder with settings, providers and state.
//!
//! Settings lie in `config/` and messages name them so, as in `config/default.toml: …`. Folders and ports that differ between
//! runs come in as variables, unless [`Installation::without`] says that the settings state them.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::built::{binary, kit_binary, repository, target};
use crate::process::{WATCHED, standard_environment};
use crate::{Client, PATIENCE, eventually_blocking, within};

/// A folder of its own for one test.
#[derive(Debug)]
pub struct Installation {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

/// What one run printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Installation {
    /// The real providers, and `text` as `config/default.toml`. `@STATE@` stands for the folder, as
    /// in [`Settings::new`](crate::Settings::new): commands run in it.
    pub fn new(text: impl Display) -> Self {
        let directory = tempfile::Builder::new().prefix("rise-test-").tempdir().unwrap();
        let mut it = Self { directory, variables: Vec::new() };
        fs::create_dir(it.path("config")).unwrap();
        fs::create_dir(it.path("providers")).unwrap();
        for name in ["ecr", "oci"] {
            it.provider(&repository().join(format!("dist/providers/{name}.wasm")), name);
        }
        it.settings(text);
        // Compiled code is shared between tests: each would compile the same components again.
        let state = target().join("test-state").display().to_string();
        it.variable("RISE_SERVER__STATE_DIRECTORY", &state);
        it.variable("RISE_AUDIT__DIRECTORY", "audit");
        it.variable("RISE_PROVIDERS__DIRECTORY", "providers");
        // No load balancer needs time to notice.
        it.variable("RISE_SERVER__DRAIN_DELAY_MS", "0");
        it.variable("RISE_SERVER__LISTEN", "127.0.0.1:0");
        it.variable("RISE_SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        it
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `config/default.toml`.
    pub fn settings(&self, text: impl Display) {
        self.file("config/default.toml", text.to_string().replace("@STATE@/", ""));
    }

    /// Writes one more file.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Makes one more folder, with this mode.
    pub fn folder(&self, name: &str, mode: u32) {
        fs::create_dir(self.path(name)).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Puts a component into the providers' folder as `{name}.wasm`.
    pub fn provider(&self, file: &Path, name: &str) {
        let copied = fs::copy(file, self.path("providers").join(format!("{name}.wasm")));
        copied.unwrap_or_else(|error| {
            panic!("{}: {error}; run `make providers guests` first", file.display())
        });
    }

    /// Puts a guest of `tests/guests` there.
    pub fn guest(&self, name: &str) {
        self.provider(&target().join(format!("guests/{name}.wasm")), name);
    }

    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// One caller asks for more than callers may: the limits have tests of their own.
    pub fn unlimited(&mut self) {
        for kind in ["ADDRESS", "SUBJECT", "PROJECT"] {
            self.variable(&format!("RISE_LIMITS__{kind}__PER_SECOND"), "1000000");
            self.variable(&format!("RISE_LIMITS__{kind}__BURST"), "1000000");
        }
    }

    /// Takes a variable away: the settings, or their defaults, say it.
    pub fn without(&mut self, name: &str) {
        self.variables.retain(|(it, _)| it != name);
    }

    /// `rise-broker` with these arguments, to be started; sees none of this machine's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Starts `rise-broker serve` and waits until it says that it is ready.
    pub fn serve(&self) -> Serving {
        // Whatever becomes of this process, the broker goes with it.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", WATCHED, "rise-broker"]).arg(binary()).arg("serve");
        self.prepare(&mut shell);
        Serving::start(shell)
    }

    /// As [`Installation::serve`]; the folder is kept for as long as the broker runs.
    pub fn serve_for_ever(self) -> Serving {
        let mut serving = self.serve();
        serving.installation = Some(self);
        serving
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(standard_environment(self.directory.path()))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path());
    }

    /// Runs `rise-broker` with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Printed {
        self.printed(&self.command(arguments).output().unwrap())
    }

    /// Runs `rise-provider` with these arguments to its end.
    pub fn run_kit(&self, arguments: &[&str]) -> Printed {
        let mut command = Command::new(kit_binary());
        command.args(arguments);
        self.prepare(&mut command);
        self.printed(&command.output().unwrap())
    }

    /// With `DIR` for this folder and `STATE` for the shared state, which differ from run to run.
    fn printed(&self, output: &Output) -> Printed {
        let own = self.directory.path().display().to_string();
        let state = target().join("test-state").display().to_string();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&own, "DIR").replace(&state, "STATE")
        };
        Printed {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// A broker that serves. Dropping it kills it.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    lines: Receiver<String>,
    /// After the child, which is dropped first.
    installation: Option<Installation>,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub admin: String,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            for line in lines {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut serving =
            Self { child, lines, installation: None, url: String::new(), admin: String::new() };
        let ready = serving.wait_for_line("ready");
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (serving.url, serving.admin) = (text("url"), text("admin"));
        serving
    }

    /// The next log line with this message.
    ///
    /// # Panics
    /// If none comes; with all that came instead.
    pub fn wait_for_line(&self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line `{message}`, but: {seen:#?}"));
            let json: Value = serde_json::from_str(&line).unwrap_or_default();
            if json["message"] == message {
                return json;
            }
            seen.push(line);
        }
    }

    /// The log lines that nobody has waited for so far.
    pub fn lines_so_far(&self) -> Vec<Value> {
        self.lines.try_iter().filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// What its admin listener says at `path`.
    pub async fn admin(&self, path: &str) -> Value {
        Client::new().get(&format!("{}{path}", self.admin)).await.json()
    }

    /// Waits until the admin listener says something of which `is_so` holds.
    ///
    /// # Panics
    /// If it never does; with what it says instead.
    pub async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut said = Value::Null;
        let came = within(PATIENCE, async || {
            said = self.admin(path).await;
            is_so(&said)
        });
        assert!(came.await, "{path} still answers {said:#}");
        said
    }

    /// The log lines that nobody has waited for, up to one of this request with this message.
    ///
    /// # Panics
    /// As [`Serving::wait_for_line`].
    pub fn lines_until(&self, request_id: &str, message: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line `{message}`, but: {seen:#?}"));
            let json: Value = serde_json::from_str(&line).unwrap_or_default();
            seen.push(line);
            if json["message"] == message && json["request_id"] == request_id {
                return seen;
            }
        }
    }

    /// SIGTERM, as an orchestrator or `kill` sends it.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGHUP: read the certificate again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn id(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually_blocking("the broker ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
