//! `~/.config/rise/registry.toml`: the caller's own settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{BrokerUrl, file_path, unreadable};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::{files, names};

const LONGEST: u64 = 64 * 1024;

/// No `token`: settings are copied, shown and kept in repositories. A file of its own is what `token_file` is for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsFile {
    pub(crate) url: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) project: Option<String>,
    pub(crate) registry: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) login: Option<LoginSettings>,
    #[serde(default)]
    pub(crate) ignore_store: bool,
    #[serde(default)]
    pub(crate) hosts: BTreeMap<String, HostSettings>,
}

/// Whom `rise-registry login` asks for tokens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginSettings {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
}

/// What to ask the broker for when a client asks for a host: `"r.example.com" = "my-app"`, or with the registry's name
/// `"r.example.com" = { project = "my-app", registry = "prod" }`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(from = "HostForm")]
pub(crate) struct HostSettings {
    pub(crate) project: Option<String>,
    pub(crate) registry: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a project, or a table of `project` and `registry`")]
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
    /// And where it is, if it is.
    pub(crate) fn load(environment: &Environment) -> Result<(Self, Option<PathBuf>), Failure> {
        let Some(path) = file_path(environment) else { return Ok((Self::default(), None)) };
        let Some(text) = files::read(&path, LONGEST).map_err(|error| unreadable(&path, &error))?
        else {
            return Ok((Self::default(), None));
        };
        let mut file: Self = toml::from_str(&text).map_err(|error| {
            unreadable(&path, &format!("{}{}", place(&text, &error), error.message()))
        })?;
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
                    &format!("[hosts]: {host:?} is no HOST or HOST:PORT"),
                ));
            }
            target
                .project
                .as_deref()
                .map_or(Ok(String::new()), |it| names::project(it, &origin))?;
            target
                .registry
                .as_deref()
                .map_or(Ok(String::new()), |it| names::registry(it, &origin))?;
        }
        if let Some(login) = &file.login {
            BrokerUrl::parse(&login.issuer, &format!("{origin}: login.issuer"))?;
        }
        Ok((file, Some(path)))
    }
}

/// `line 3: `, if the error says where.
pub(super) fn place(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map_or_else(String::new, |before| format!("line {}: ", before.lines().count().max(1)))
}
