//! The broker's binary as an operator runs it, in a folder with settings, providers and state.
//! [`Serving`] is the running binary.
//!
//! Settings lie in `config/`, and messages name them like that, as in `config/default.toml: …`.
//! Folders and ports differ between runs and come in as variables; [`Installation::without`]
//! removes one.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::Serving;
use crate::broker::audit_records;
use crate::built::{binary, kit_binary, repository, target};
use crate::process::{WATCHED, standard_environment};

/// A folder for one test.
#[derive(Debug)]
pub struct Installation {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

/// The output and the exit code of one run.
#[derive(Debug, PartialEq, Eq)]
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Installation {
    /// Installs the real providers, and `text` as `config/default.toml`. `@STATE@` stands for the
    /// folder, as in [`Settings::new`](crate::Settings::new): commands run in it.
    pub fn new(text: impl Display) -> Self {
        let directory = tempfile::Builder::new().prefix("rise-test-").tempdir().unwrap();
        let mut installation = Self { directory, variables: Vec::new() };
        fs::create_dir(installation.path("config")).unwrap();
        fs::create_dir(installation.path("providers")).unwrap();
        for name in ["ecr", "oci"] {
            installation.provider(&repository().join(format!("dist/providers/{name}.wasm")), name);
        }
        installation.settings(text);
        // All tests share the folder of compiled code: each would compile the same components.
        let state = target().join("test-state").display().to_string();
        installation.variable("RISE_SERVER__STATE_DIRECTORY", &state);
        installation.variable("RISE_AUDIT__DIRECTORY", "audit");
        installation.variable("RISE_PROVIDERS__DIRECTORY", "providers");
        let cache = target().join("test-cache/home").display().to_string();
        installation.variable("XDG_CACHE_HOME", &cache);
        // No load balancer has to notice the stop.
        installation.variable("RISE_SERVER__DRAIN_DELAY_MS", "0");
        installation.variable("RISE_SERVER__LISTEN", "127.0.0.1:0");
        installation.variable("RISE_SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        installation
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `config/default.toml`.
    pub fn settings(&self, text: impl Display) {
        self.file("config/default.toml", text.to_string().replace("@STATE@/", ""));
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Creates a folder with this mode.
    pub fn folder(&self, name: &str, mode: u32) {
        fs::create_dir(self.path(name)).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Copies a component into the providers' folder as `{name}.wasm`.
    pub fn provider(&self, file: &Path, name: &str) {
        let copied = fs::copy(file, self.path("providers").join(format!("{name}.wasm")));
        copied.unwrap_or_else(|error| {
            panic!("{}: {error}; run `make providers guests` first", file.display())
        });
    }

    /// Copies a guest of `tests/guests` into the providers' folder.
    pub fn guest(&self, name: &str) {
        self.provider(&target().join(format!("guests/{name}.wasm")), name);
    }

    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Raises the limits of callers, which have tests of their own.
    pub fn unlimited(&mut self) {
        for kind in ["ADDRESS", "SUBJECT", "PROJECT"] {
            self.variable(&format!("RISE_LIMITS__{kind}__PER_SECOND"), "1000000");
            self.variable(&format!("RISE_LIMITS__{kind}__BURST"), "1000000");
        }
    }

    /// Removes a variable, so that the settings or their defaults apply.
    pub fn without(&mut self, name: &str) {
        self.variables.retain(|(own, _)| own != name);
    }

    /// Prepares `rise-broker` with these arguments. It sees no variable of this machine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Starts `rise-broker serve` and waits until it logs that it is ready.
    pub fn serve(&self) -> Serving {
        self.serve_under(&[])
    }

    /// Starts it as the last arguments of another program, such as `strace -f`.
    pub fn serve_under(&self, program: &[&str]) -> Serving {
        // However this process ends, the broker ends with it.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", WATCHED, "rise-broker"]).args(program).arg(binary()).arg("serve");
        self.prepare(&mut shell);
        Serving::start(shell)
    }

    /// The same as [`Installation::serve`]; the folder stays as long as the broker runs.
    pub fn serve_for_ever(self) -> Serving {
        self.serve().keep(self)
    }

    fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(standard_environment(self.directory.path()))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path());
    }

    /// Runs `rise-broker` with these arguments and waits for its end.
    pub fn run(&self, arguments: &[&str]) -> Printed {
        self.printed(&self.command(arguments).output().unwrap())
    }

    /// The same as another user of this machine, which only root can do. That user can read the
    /// folder and owns `own`.
    pub fn run_as(&self, user: u32, own: &[&str], arguments: &[&str]) -> Printed {
        let opened = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.directory.path(), opened).unwrap();
        for name in own {
            std::os::unix::fs::chown(self.path(name), Some(user), Some(user)).unwrap();
        }
        let mut command = self.command(arguments);
        command.uid(user).gid(user).env_remove("XDG_CACHE_HOME");
        self.printed(&command.output().unwrap())
    }

    /// Mints a token of the built-in issuer that may pull and push `project` by the rules of
    /// [`AUTH`](crate::AUTH).
    pub fn token_for(&self, project: &str) -> String {
        let claim = format!("repository=acme/{project}");
        let printed = self.run(&["token", "--subject", "ci", "--claim", &claim, "--ttl", "1h"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.stdout.trim().to_owned()
    }

    /// Reads every audit record, in order, also while the broker runs.
    pub fn audit(&self) -> Vec<Value> {
        audit_records(&self.path("audit"))
    }

    /// Runs `rise-provider` with these arguments and waits for its end.
    pub fn run_kit(&self, arguments: &[&str]) -> Printed {
        self.printed(&self.kit_command(arguments).output().unwrap())
    }

    /// Prepares `rise-provider` with these arguments, as [`Self::command`] does.
    pub fn kit_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(kit_binary());
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Replaces this folder by `DIR` and the shared state by `STATE`, which differ from run to run.
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
