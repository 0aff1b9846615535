//! The broker's binary as an operator runs it: in a folder with settings, providers and state.
//!
//! Settings lie in `config/` and messages name them so, as in `config/default.toml: …`. Folders and ports that differ between
//! runs come in as variables, unless [`Installation::without`] says that the settings state them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::broker::{binary, repository, target};
use crate::process::standard_environment;

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
    /// The real providers, and `text` as `config/default.toml`.
    pub fn new(text: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("rise-test-").tempdir().unwrap();
        let mut it = Self { directory, variables: Vec::new() };
        fs::create_dir(it.path("config")).unwrap();
        fs::create_dir(it.path("providers")).unwrap();
        for name in ["ecr", "oci"] {
            it.provider(&repository().join(format!("dist/providers/{name}.wasm")), name);
        }
        it.file("config/default.toml", text);
        // Compiled code is shared between tests: each would compile the same components again.
        let state = target().join("test-state").display().to_string();
        it.variable("RISE_SERVER__STATE_DIRECTORY", &state);
        it.variable("RISE_AUDIT__DIRECTORY", "audit");
        it.variable("RISE_PROVIDERS__DIRECTORY", "providers");
        it.variable("RISE_SERVER__LISTEN", "127.0.0.1:0");
        it.variable("RISE_SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        it
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
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

    /// Takes a variable away: the settings, or their defaults, say it.
    pub fn without(&mut self, name: &str) {
        self.variables.retain(|(it, _)| it != name);
    }

    /// `rise-broker` with these arguments, to be started; sees none of this machine's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_clear()
            .envs(standard_environment(self.directory.path()))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path());
        command
    }

    /// Runs `rise-broker` with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Printed {
        self.printed(&self.command(arguments).output().unwrap())
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
