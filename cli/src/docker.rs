//! Docker's `config.json` and podman's `auth.json`, which have the same form.
//!
//! **Invariant:** other programs' entries stay: one entry is set, and the rest is written back as
//! it was read.

mod preferred;
mod record;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

pub(crate) use self::preferred::preferred_logins;
pub(crate) use self::record::{LoginRecords, RecordedLogin};

use crate::broker::{Credentials, Kind};
use crate::environment::Environment;
use crate::failure::{Failure, shown};
use crate::files::{self, FileError};
use crate::names;

/// The name of `docker-credential-rise` in clients' settings.
pub(crate) const HELPER: &str = "rise";

const LONGEST: u64 = 4 * 1024 * 1024;

/// The logins of a new `config.json`.
#[derive(Default)]
pub(crate) struct Auths(Map<String, Value>);

impl Auths {
    /// `place` is a host or, for clients that look up logins by repository, an image without a tag.
    pub(crate) fn add(&mut self, place: &str, credentials: &Credentials) {
        self.0.insert(place.to_owned(), entry(credentials));
    }

    pub(crate) fn text(self) -> Zeroizing<String> {
        self.text_with(&Map::new())
    }

    /// The text of a file that also contains `settings`.
    pub(crate) fn text_with(self, settings: &Map<String, Value>) -> Zeroizing<String> {
        let mut json = settings.clone();
        json.insert("auths".to_owned(), Value::Object(self.0));
        Zeroizing::new(Value::Object(json).to_string())
    }
}

/// A configuration file, which may not exist yet.
pub(crate) struct ConfigFile {
    path: PathBuf,
    json: Map<String, Value>,
}

impl ConfigFile {
    /// The file that docker reads.
    pub(crate) fn of_docker(environment: &Environment) -> Result<Self, Failure> {
        let directory = match environment.path("DOCKER_CONFIG") {
            Some(directory) => directory,
            None => environment.home()?.join(".docker"),
        };
        Self::load(directory.join("config.json"))
    }

    /// The files that podman, buildah and skopeo read, as far as they can be read.
    pub(crate) fn of_podman(environment: &Environment) -> Vec<Self> {
        let below = |folder: Option<PathBuf>| Some(folder?.join("containers/auth.json"));
        let settings = environment.configuration_directory();
        let settings = settings.and_then(|folder| Some(folder.parent()?.to_owned()));
        // Without the variable, the first of its files is `/run/containers/UID/auth.json`.
        let user = rustix::process::getuid().as_raw();
        let without = || environment.root.join(format!("run/containers/{user}/auth.json"));
        let runtime = below(environment.path("XDG_RUNTIME_DIR")).unwrap_or_else(without);
        let files = match environment.path("REGISTRY_AUTH_FILE") {
            Some(path) => vec![Some(path)],
            None => vec![Some(runtime), below(settings)],
        };
        files.into_iter().flatten().filter_map(|path| Self::load(path).ok()).collect()
    }

    pub(crate) fn load(path: PathBuf) -> Result<Self, Failure> {
        // The target of a link is replaced, not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let failed = |what: &dyn std::fmt::Display| {
            Failure::Files(format!("{}: {what}; the file is unchanged", path.display()))
        };
        let text = files::read(&path, LONGEST).map_err(|error| failed(&error))?;
        let json = match text.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty()) {
            None => Map::new(),
            // The error of serde_json can quote the text, so only its place is told.
            Some(text) => serde_json::from_str(text).map_err(|error| {
                failed(&format!(
                    "is not a JSON object (line {}, column {}): mend it, or move it away",
                    error.line(),
                    error.column()
                ))
            })?,
        };
        if json.get("auths").is_some_and(|auths| !auths.is_object()) {
            return Err(failed(&"its `auths` is not an object"));
        }
        Ok(Self { path, json })
    }

    pub(crate) fn entries(&self) -> &Map<String, Value> {
        &self.json
    }

    pub(crate) fn json(&mut self) -> &mut Map<String, Value> {
        &mut self.json
    }

    /// The `NAME` of the `docker-credential-NAME` that docker asks about this host alone.
    pub(crate) fn helper(&self, host: &str) -> Option<&str> {
        let mut helpers = self.json.get("credHelpers")?.as_object()?.iter();
        helpers.find(|(key, _)| names::is_key_of(key, host))?.1.as_str()
    }

    /// The helper of this host or, without one, the helper of all hosts.
    pub(crate) fn helper_or_store(&self, host: &str) -> Option<&str> {
        let store = || self.json.get("credsStore").and_then(Value::as_str);
        self.helper(host).or_else(store).filter(|name| !name.is_empty())
    }

    /// The member of the file that names the helper of this host.
    pub(crate) fn member_with_helper(&self, host: &str) -> &'static str {
        if self.helper(host).is_some() { "credHelpers" } else { "credsStore" }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The remedy for a file that cannot be written.
    fn elsewhere(&self) -> &'static str {
        if self.path.ends_with("config.json") {
            "set DOCKER_CONFIG to a folder of your own, or use `rise-registry exec`"
        } else {
            "set REGISTRY_AUTH_FILE to a file of your own, or use `rise-registry exec`"
        }
    }

    /// The file, if it contains a login for the host.
    pub(crate) fn with_login(&self, host: &str) -> Option<&Path> {
        let mut keys = self.json.get("auths")?.as_object()?.keys();
        keys.any(|key| names::is_key_of(key, host)).then_some(self.path.as_path())
    }

    /// Fails if the file names a helper for the host: docker would never read the login.
    pub(crate) fn check_that_it_is_read(&self, host: &str) -> Result<(), Failure> {
        let Some(helper) = self.helper_or_store(host) else { return Ok(()) };
        let member = self.member_with_helper(host);
        Err(Failure::Files(format!(
            "`{member}` of {} makes docker ask docker-credential-{} for {host}, so docker would \
             not read a login there: run `rise-registry configure docker --host {host}`, or use \
             `rise-registry exec`",
            self.path.display(),
            shown(helper)
        )))
    }

    /// Writes one login. Returns whether it replaces another one.
    pub(crate) fn log_in(
        &mut self,
        place: &str,
        credentials: &Credentials,
    ) -> Result<bool, Failure> {
        let mut earlier = None;
        let login = entry(credentials);
        self.update(|json| {
            let auths = json.entry("auths").or_insert_with(|| json!({}));
            if let Some(auths) = auths.as_object_mut() {
                earlier = auths.insert(place.to_owned(), login.clone());
            }
        })?;
        Ok(earlier.is_some_and(|earlier| earlier != login))
    }

    /// Removes the logins with one of these digests. Returns their number.
    pub(crate) fn log_out(&mut self, digests: &[String]) -> Result<usize, Failure> {
        let is_ours = |login: &Value| digests.contains(&record::digest(login));
        let logins = |json: &Map<String, Value>| {
            json.get("auths").and_then(Value::as_object).map_or(0, Map::len)
        };
        let auths = self.json.get("auths").and_then(Value::as_object);
        if !auths.is_some_and(|auths| auths.values().any(is_ours)) {
            return Ok(0);
        }
        let mut removed = 0;
        self.update(|json| {
            let before = logins(json);
            if let Some(auths) = json.get_mut("auths").and_then(Value::as_object_mut) {
                auths.retain(|_, login| !is_ours(login));
            }
            removed = before - logins(json);
        })?;
        Ok(removed)
    }

    /// Reads the file again, changes it and writes it, so that other programs' changes since it was
    /// loaded stay. One run at a time does so. A file without content is removed.
    pub(crate) fn update(
        &mut self,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), Failure> {
        let failed = |what: &dyn std::fmt::Display| {
            Failure::Files(format!(
                "{} cannot be written: {what}; {}",
                self.path.display(),
                self.elsewhere()
            ))
        };
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        let _lock = files::lock_folder(folder).map_err(|error| failed(&error))?;
        *self = Self::load(self.path.clone())?;
        change(&mut self.json);
        if self.json.is_empty() && self.path.exists() {
            return fs::remove_file(&self.path).map_err(|error| {
                Failure::Files(format!("{} cannot be removed: {error}", self.path.display()))
            });
        }
        self.write()
    }

    fn write(&self) -> Result<(), Failure> {
        let failed = |what: &dyn std::fmt::Display| {
            Failure::Files(format!("{} cannot be written: {what}", self.path.display()))
        };
        let mut text = Zeroizing::new(Vec::new());
        // Docker indents by tabs.
        let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut *text, form);
        self.json.serialize(&mut serializer).map_err(|error| failed(&error))?;
        files::write_like(&self.path, &self.path, &String::from_utf8_lossy(&text)).map_err(
            |error| match error {
                FileError::Mounted => failed(&error),
                FileError::Io(_)
                | FileError::NotRegular
                | FileError::TooLong(_)
                | FileError::NotText
                | FileError::NotPrivate(_) => failed(&format!("{error}; {}", self.elsewhere())),
            },
        )
    }
}

/// The password, and its encoded form in configuration files.
pub(crate) fn secrets(credentials: &Credentials) -> [Zeroizing<String>; 2] {
    let password = Zeroizing::new(credentials.password.expose().to_owned());
    [password, basic(credentials)]
}

fn basic(credentials: &Credentials) -> Zeroizing<String> {
    let pair =
        Zeroizing::new(format!("{}:{}", credentials.username, credentials.password.expose()));
    Zeroizing::new(STANDARD.encode(pair.as_bytes()))
}

/// Identifies the entry for these credentials.
pub(crate) fn digest_of(credentials: &Credentials) -> String {
    record::digest(&entry(credentials))
}

fn entry(credentials: &Credentials) -> Value {
    let password = credentials.password.expose();
    match credentials.kind {
        Kind::Refresh => json!({ "identitytoken": password }),
        Kind::Bearer => json!({ "registrytoken": password }),
        Kind::Basic | Kind::ClientAuth => {
            json!({ "auth": basic(credentials).as_str() })
        }
    }
}
