//! `~/.config/rise/registry.toml`: the caller's own settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{BrokerUrl, file_path, unreadable};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::{files, names};

const LONGEST: u64 = 64 * 1024;

/// There is no key `token`, because settings are copied and kept in repositories. `token_file`
/// names a file for it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsFile {
    pub(crate) url: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) token_command: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) registry: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) wait: Option<String>,
    pub(crate) login: Option<LoginSettings>,
    #[serde(default)]
    pub(crate) ignore_store: bool,
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, HostSettings>,
}

/// The issuer of tokens for `rise-registry login`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginSettings {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
}

/// The project of a registry's host: `"r.example.com" = "my-app"`, or with the registry's name
/// `"r.example.com" = { project = "my-app", registry = "prod" }`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(from = "HostForm")]
pub(crate) struct HostSettings {
    pub(crate) project: Option<String>,
    pub(crate) registry: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a project, or a table of `project` and `registry`")]
enum HostForm {
    Project(String),
    Table(HostTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostTable {
    project: Option<String>,
    registry: Option<String>,
}

impl From<HostForm> for HostSettings {
    fn from(form: HostForm) -> Self {
        match form {
            HostForm::Project(project) => Self { project: Some(project), registry: None },
            HostForm::Table(HostTable { project, registry }) => Self { project, registry },
        }
    }
}

impl SettingsFile {
    /// Returns the settings, and the file's path if it exists.
    pub(crate) fn load(environment: &Environment) -> Result<(Self, Option<PathBuf>), Failure> {
        let Some(path) = file_path(environment) else { return Ok((Self::default(), None)) };
        let Some(text) = files::read(&path, LONGEST).map_err(|error| unreadable(&path, &error))?
        else {
            return Ok((Self::default(), None));
        };
        let mut file: Self =
            toml::from_str(&text).map_err(|error| unreadable(&path, &described(&text, &error)))?;
        let home = environment.home().unwrap_or_default();
        for stated in [&mut file.token_file, &mut file.ca_file].into_iter().flatten() {
            if let Ok(rest) = stated.strip_prefix("~") {
                *stated = home.join(rest);
            }
        }
        let origin = path.display().to_string();
        for (host, target) in &file.hosts {
            if !names::is_host(host) {
                return Err(unreadable(
                    &path,
                    &format!("[hosts]: the key {host:?} is not HOST or HOST:PORT; leave out paths"),
                ));
            }
            let origin = format!("{origin}: [hosts], {host:?}");
            if let Some(project) = &target.project {
                names::project(project, &origin)?;
            }
            if let Some(registry) = &target.registry {
                names::registry(registry, &origin)?;
            }
        }
        if let Some(login) = &file.login {
            BrokerUrl::parse(&login.issuer, &format!("{origin}: login.issuer"))?;
        }
        Ok((file, Some(path)))
    }
}

/// The error with its place, as in `line 3: unknown field …`. The text of [`HostForm`] needs its
/// key, which is on the same line.
pub(super) fn described(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message.to_owned();
    };
    let number = before.matches('\n').count();
    let key = text.lines().nth(number).and_then(|line| line.split('=').next());
    let key = key.filter(|_| message.starts_with("must ")).map(|key| format!("{} ", key.trim()));
    format!("line {}: {}{message}", number + 1, key.unwrap_or_default())
}
