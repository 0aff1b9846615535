//! A caller's machine: a home, the client's two programs on `PATH`, and no variable of this
//! machine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::built::beside;
use crate::installation::Printed;
use crate::process::{SYSTEM_PATH, find_program, standard_environment};

/// How many seconds a program here may run; the client promises ten.
const LONGEST: &str = "60";

/// A home of its own. Dropping it removes its files.
#[derive(Debug)]
pub struct Workstation {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Workstation {
    #[allow(clippy::new_without_default, reason = "makes a directory")]
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("rise-client-").tempdir().unwrap();
        let machine = Self { home, variables: Vec::new() };
        fs::create_dir(machine.path("bin")).unwrap();
        for name in ["rise-registry", "docker-credential-rise"] {
            let program = beside(name, "rise-cli");
            std::os::unix::fs::symlink(program, machine.path("bin").join(name)).unwrap();
        }
        machine
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(own, _)| own != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.variables.retain(|(own, _)| !names.contains(&own.as_str()));
        self
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file, and creates the folders above it.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn rise(&self, arguments: &[&str]) -> Printed {
        self.run("rise-registry", arguments)
    }

    /// Runs `docker-credential-rise` as a client starts it.
    pub fn helper(&self, action: &str, stdin: &str) -> Printed {
        self.run_with("docker-credential-rise", &[action], stdin)
    }

    /// Runs a program of the system, or one of the client's two.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Printed {
        self.run_with(program, arguments, "")
    }

    pub fn run_with(&self, program: &str, arguments: &[&str], stdin: &str) -> Printed {
        let mut child = self.command(program, arguments).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A program that does not read its input has closed it.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let own = self.home.path().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&own, "~");
        Printed {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Prepares a program, which is killed after a minute.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let own = self.path("bin").join(program);
        let program = if own.exists() { own } else { find_program(program) };
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=1", LONGEST])
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(standard_environment(self.home.path()))
            .env("PATH", format!("{}:{SYSTEM_PATH}", self.path("bin").display()))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The file that docker reads.
    pub fn docker_config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path(".docker/config.json")).unwrap()).unwrap()
    }

    /// Every file below the home.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => {
                        found.push((entry.path(), fs::read(entry.path()).unwrap()));
                    }
                    _ => {}
                }
            }
        }
        found
    }
}
