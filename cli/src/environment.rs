//! The environment variables of this process. No other file reads them.

use std::collections::BTreeMap;
use std::env::VarError;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use rise_secret::Secret;

/// The variables that [`Environment::from_process`] reads. Others are not available.
pub(crate) const NAMES: &[&str] = &[
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "BUILDKITE_AGENT_ACCESS_TOKEN",
    "BUILDKITE_JOB_ID",
    "BUILDX_CONFIG",
    "DOCKER_AUTH_CONFIG",
    "DOCKER_CONFIG",
    "GITHUB_ACTIONS",
    "HOME",
    "HTTPS_PROXY",
    "KUBERNETES_SERVICE_HOST",
    "NO_COLOR",
    "NO_PROXY",
    "PATH",
    "REGISTRY_AUTH_FILE",
    "RISE_AUDIENCE",
    "RISE_CA_FILE",
    "RISE_ID_TOKEN",
    "RISE_IGNORE_STORE",
    "RISE_PROJECT",
    "RISE_REGISTRY",
    "RISE_TOKEN",
    "RISE_TOKEN_COMMAND",
    "RISE_TOKEN_FILE",
    "RISE_URL",
    "RISE_WAIT",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "https_proxy",
    "no_proxy",
];

/// Variables without which a run does the same.
const HARMLESS: &[&str] = &["NO_COLOR", "PATH", "TERM", "TMPDIR"];

/// Each variable is a [`Secret`]: some hold tokens, and a proxy's URL may hold a password.
pub(crate) struct Environment {
    variables: BTreeMap<&'static str, Secret>,
    /// The variables that are set to nothing.
    empty: Vec<&'static str>,
    /// The variables that are not UTF-8.
    garbled: Vec<&'static str>,
    working_directory: PathBuf,
    /// The folder that contains `var/run/secrets`. Tests replace it.
    pub(crate) root: PathBuf,
}

impl Environment {
    /// Variables that are empty or not UTF-8 count as not set.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the environment")]
    pub(crate) fn from_process() -> Self {
        let (mut variables, mut empty, mut garbled) = (BTreeMap::new(), Vec::new(), Vec::new());
        for name in NAMES {
            match std::env::var(name) {
                Ok(text) if text.is_empty() => empty.push(*name),
                Ok(text) => {
                    variables.insert(*name, Secret::new(text));
                }
                Err(VarError::NotUnicode(_)) => garbled.push(*name),
                Err(VarError::NotPresent) => {}
            }
        }
        Self {
            variables,
            empty,
            garbled,
            working_directory: std::env::current_dir().unwrap_or_default(),
            root: PathBuf::from("/"),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)], working_directory: &Path) -> Self {
        let known = |name: &str| *NAMES.iter().find(|known| **known == name).expect("in NAMES");
        Self {
            variables: pairs
                .iter()
                .map(|(name, text)| (known(name), Secret::new((*text).to_owned())))
                .collect(),
            empty: Vec::new(),
            garbled: Vec::new(),
            working_directory: working_directory.to_owned(),
            root: working_directory.to_owned(),
        }
    }

    /// Rejects variables that are not UTF-8: without them, a run would do something else.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.garbled.iter().find(|name| !HARMLESS.contains(name)) {
            None => Ok(()),
            Some(name) => Err(Failure::Settings(format!(
                "the variable {name} is not UTF-8: set it to UTF-8 text, or unset it"
            ))),
        }
    }

    /// The end of a message about something that these variables would have given.
    pub(crate) fn empty_among(&self, names: &[&str]) -> String {
        let empty: Vec<&str> =
            self.empty.iter().copied().filter(|name| names.contains(name)).collect();
        match empty.as_slice() {
            [] => String::new(),
            [name] => format!("; {name} is set, but empty"),
            names => format!("; {} are set, but empty", names.join(" and ")),
        }
    }

    /// The text of a variable that is not a secret.
    pub(crate) fn text(&self, name: &'static str) -> Option<&str> {
        self.secret(name).map(Secret::expose)
    }

    pub(crate) fn secret(&self, name: &'static str) -> Option<&Secret> {
        debug_assert!(NAMES.contains(&name), "{name} is missing in NAMES");
        self.variables.get(name)
    }

    pub(crate) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub(crate) fn working_directory(&self) -> &Path {
        &self.working_directory
    }

    /// `$XDG_CONFIG_HOME/rise`, by default `~/.config/rise`. `None` if there is no home.
    pub(crate) fn configuration_directory(&self) -> Option<PathBuf> {
        Some(self.absolute("XDG_CONFIG_HOME", ".config")?.join("rise"))
    }

    /// `$XDG_CACHE_HOME/rise`, by default `~/.cache/rise`. `None` if there is no home.
    pub(crate) fn cache_directory(&self) -> Option<PathBuf> {
        Some(self.absolute("XDG_CACHE_HOME", ".cache")?.join("rise"))
    }

    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        let home = self.path("HOME").filter(|home| home.is_absolute());
        home.ok_or_else(|| Failure::Files("HOME is not set to a folder: set it".to_owned()))
    }

    /// Whether clients find `docker-credential-rise`.
    pub(crate) fn has_helper_on_path(&self) -> bool {
        let mut folders = self.text("PATH").unwrap_or_default().split(':').map(Path::new);
        folders.any(|folder| folder.join("docker-credential-rise").is_file())
    }

    /// The XDG base directory specification ignores relative paths.
    fn absolute(&self, name: &'static str, below_home: &str) -> Option<PathBuf> {
        let named = self.path(name).filter(|path| path.is_absolute());
        named.or_else(|| Some(self.home().ok()?.join(below_home)))
    }
}
