//! The broker's binary while it serves: its log, its addresses, signals to it, and its end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::{Client, Installation, PATIENCE, eventually_blocking, within};

/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    /// The log lines that no test has waited for.
    lines: Receiver<String>,
    log: Arc<Mutex<String>>,
    /// The folder. It is dropped after the child.
    installation: Option<Installation>,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    pub admin: String,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        let log = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.lock().unwrap().push_str(&format!("{line}\n"));
                // A test may stop reading lines before the broker ends.
                let _ = sender.send(line);
            }
        });
        let (url, admin) = (String::new(), String::new());
        let mut serving = Self { child, lines, log, installation: None, url, admin };
        let ready = serving.wait_for("ready", |line| address(line, "url").is_some());
        serving.url = address(&ready, "url").unwrap();
        serving.admin = address(&ready, "admin").unwrap();
        serving
    }

    /// Keeps the folder for as long as the broker runs.
    #[must_use]
    pub(crate) fn keep(mut self, installation: Installation) -> Self {
        self.installation = Some(installation);
        self
    }

    /// Waits for the next log line with this message.
    ///
    /// # Panics
    /// If none comes. The message contains the whole log.
    pub fn wait_for_line(&self, message: &str) -> Value {
        json(&self.wait_for(message, |line| json(line)["message"] == message))
    }

    fn wait_for(&self, message: &str, mut is_it: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line `{message}` in:\n{}", self.log()));
            if is_it(&line) {
                return line;
            }
        }
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The log lines so far that no test has waited for.
    pub fn lines_so_far(&self) -> Vec<Value> {
        self.lines.try_iter().filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// The JSON that its admin listener answers at `path`.
    pub async fn admin(&self, path: &str) -> Value {
        Client::new().get(&format!("{}{path}", self.admin)).await.json()
    }

    /// Waits until `is_so` holds for the answer of the admin listener at `path`.
    ///
    /// # Panics
    /// If it never holds. The message contains the last answer.
    pub async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut said = Value::Null;
        let came = within(PATIENCE, async || {
            said = self.admin(path).await;
            is_so(&said)
        });
        assert!(came.await, "{path} still answers {said:#}");
        said
    }

    /// Waits for a log line with this request id and message. Returns it and all lines before it
    /// that no test has waited for.
    ///
    /// # Panics
    /// As [`Serving::wait_for_line`].
    pub fn lines_until(&self, request_id: &str, message: &str) -> Vec<String> {
        let mut seen = Vec::new();
        self.wait_for(message, |line| {
            seen.push(line.to_owned());
            let line = json(line);
            line["message"] == message && line["request_id"] == request_id
        });
        seen
    }

    /// Sends SIGTERM, as an orchestrator does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGHUP: read settings and the certificate again.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// The number of its open files.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The processor time that it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name of the program may hold blanks. After it, the 12th and 13th field are the time
        // in and outside the kernel, in hundredths of a second.
        let fields = stat.rsplit_once(')').unwrap().1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        ticks.map(Result::unwrap).sum::<f64>() / 100.0
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
    /// If it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually_blocking("the broker ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

/// An address in the log line `ready`, whose format is JSON or text.
fn address(line: &str, name: &str) -> Option<String> {
    if let Some(address) = json(line)[name].as_str() {
        return Some(address.to_owned());
    }
    let (_, fields) = line.split_once(" ready ")?;
    let (_, rest) = fields.split_once(&format!("{name}="))?;
    rest.split([' ', '"']).find(|word| word.starts_with("http")).map(ToOwned::to_owned)
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
