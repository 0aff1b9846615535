//! A folder of settings and providers for a broker in process.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use rise_broker::config::node::Problem;
use rise_broker::config::{Config, Environment};
use rise_broker::identity::LocalIssuer;
use tempfile::TempDir;

use crate::broker::mint;
use crate::built::{repository, target};

/// Settings that let tokens of the built-in issuer with `repository = "acme/<project>"` pull and
/// push in every registry named `prod`, and tokens with `role = "reader"` only pull. Append
/// registries to them.
pub const AUTH: &str = r#"
[auth]
audience = "rise-registry"
[[auth.issuers]]
name = "local"
key_file = "@STATE@/issuer.pem"
[[rules]]
name = "ci"
issuer = "local"
claims = { repository = "acme/{project}" }
projects = ["*"]
registries = ["prod"]
allow = ["pull", "push"]
[[rules]]
name = "readers"
issuer = "local"
claims = { role = "reader" }
projects = ["*"]
registries = ["prod"]
allow = ["pull"]
"#;

/// Limits that a test does not reach by accident.
const RAISED: &str = r"
[limits]
in_flight = 10000
address = { per_second = 100000, burst = 100000 }
subject = { per_second = 100000, burst = 100000 }
project = { per_second = 100000, burst = 100000 }
registry = { in_flight = 1000, per_second = 100000, burst = 100000 }
";

/// A folder with settings in `config/`, the real providers in `providers/`, and room for state.
pub struct Settings {
    directory: TempDir,
}

impl Settings {
    /// Writes `text` as `config/default.toml`. `@STATE@` in it stands for the folder. Limits are
    /// raised unless `text` states some.
    pub fn new(text: impl Display) -> Self {
        let settings = Self { directory: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir(settings.path("providers")).unwrap();
        fs::create_dir(settings.path("config")).unwrap();
        for name in ["ecr", "oci"] {
            settings.install(&repository().join(format!("dist/providers/{name}.wasm")));
        }
        settings.write(text);
        settings
    }

    /// Writes `config/default.toml` anew, as [`Settings::new`] does.
    pub(crate) fn write(&self, text: impl Display) {
        let text = text.to_string();
        let limits = if text.contains("[limits]") { "" } else { RAISED };
        let text = format!("{}{limits}{text}", self.folders());
        let text = text.replace("@STATE@", &self.path("").display().to_string());
        fs::write(self.path("config/default.toml"), text).unwrap();
    }

    fn folders(&self) -> String {
        // All tests share the folder of compiled code: each would compile the same components.
        let state = target().join("test-state");
        let [state, providers, audit] = [state, self.path("providers"), self.path("audit")]
            .map(|folder| folder.display().to_string());
        format!(
            r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
state_directory = "{state}"
[providers]
directory = "{providers}"
[audit]
directory = "{audit}"
"#
        )
    }

    /// Adds a real provider beside `ecr` and `oci`.
    #[must_use]
    pub fn provider(self, name: &str) -> Self {
        self.install(&repository().join(format!("dist/providers/{name}.wasm")));
        self
    }

    /// Adds components of `tests/guests` to the providers.
    #[must_use]
    pub fn guests(self, names: &[&str]) -> Self {
        for name in names {
            self.install(&target().join(format!("guests/{name}.wasm")));
        }
        self
    }

    /// Adds providers of this repository to `ecr` and `oci`.
    #[must_use]
    pub fn providers(self, names: &[&str]) -> Self {
        for name in names {
            self.install(&repository().join(format!("dist/providers/{name}.wasm")));
        }
        self
    }

    /// Writes a layer above, for tables that [`Settings::new`] has stated, such as `[server]`.
    #[must_use]
    pub fn layer(self, text: &str) -> Self {
        fs::write(self.path("config/local.toml"), text).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config_directory(&self) -> PathBuf {
        self.path("config")
    }

    pub fn config(&self, environment: &Environment) -> Result<Config, Vec<Problem>> {
        Config::load(&self.config_directory(), environment)
    }

    /// Mints a token of the built-in issuer that may pull and push `project`, for a broker in
    /// another process.
    pub fn token_for(&self, project: &str) -> String {
        let issuer = LocalIssuer::open_or_create(&self.path("issuer.pem")).unwrap();
        mint(&issuer, &serde_json::json!({ "repository": format!("acme/{project}") }))
    }

    fn install(&self, file: &Path) {
        let copied = fs::copy(file, self.path("providers").join(file.file_name().unwrap()));
        copied.unwrap_or_else(|error| {
            panic!("{}: {error}; run `make providers guests` first", file.display())
        });
    }
}
