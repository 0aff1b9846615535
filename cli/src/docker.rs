//! Docker's `config.json` and podman's `auth.json`: the same form, and never ours alone.
//!
//! **Invariant:** what others wrote stays: one entry is set, the rest is written back as it was read.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::broker::{Credentials, Kind};
use crate::environment::Environment;
use crate::failure::{Failure, shown};
use crate::files;

/// `docker-credential-rise`, as clients' settings name it.
pub(crate) const HELPER: &str = "rise";

const LONGEST: u64 = 4 * 1024 * 1024;

/// A `config.json` of nothing but logins.
#[derive(Default)]
pub(crate) struct Auths(Map<String, Value>);

impl Auths {
    /// `place` is a host or, where the reader knows paths, an image without its tag.
    pub(crate) fn add(&mut self, place: &str, credentials: &Credentials) {
        self.0.insert(place.to_owned(), entry(credentials));
    }

    pub(crate) fn text(self) -> Zeroizing<String> {
        self.text_with(&Map::new())
    }

    /// Beside settings that are no logins.
    pub(crate) fn text_with(self, settings: &Map<String, Value>) -> Zeroizing<String> {
        let mut json = settings.clone();
        json.insert("auths".to_owned(), Value::Object(self.0));
        Zeroizing::new(Value::Object(json).to_string())
    }
}

/// One that exists, or will.
pub(crate) struct ConfigFile {
    path: PathBuf,
    json: Map<String, Value>,
}

impl ConfigFile {
    /// Where docker looks.
    pub(crate) fn of_docker(environment: &Environment) -> Result<Self, Failure> {
        let directory = match environment.path("DOCKER_CONFIG") {
            Some(directory) => directory,
            None => environment.home()?.join(".docker"),
        };
        Self::load(directory.join("config.json"))
    }

    pub(crate) fn load(path: PathBuf) -> Result<Self, Failure> {
        // What a link points to is replaced, not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let failed = |what: &dyn std::fmt::Display| {
            Failure::Files(format!("{}: {what}; it is left as it is", path.display()))
        };
        let text = files::read(&path, LONGEST).map_err(|error| failed(&error))?;
        let json = match text.as_ref().map(|it| it.trim()).filter(|it| !it.is_empty()) {
            None => Map::new(),
            // A message of serde_json can quote what it read.
            Some(text) => serde_json::from_str(text).map_err(|_| failed(&"is no JSON object"))?,
        };
        if json.get("auths").is_some_and(|it| !it.is_object()) {
            return Err(failed(&"its `auths` is no object"));
        }
        Ok(Self { path, json })
    }

    pub(crate) fn entries(&self) -> &Map<String, Value> {
        &self.json
    }

    pub(crate) fn json(&mut self) -> &mut Map<String, Value> {
        &mut self.json
    }

    /// Whom docker asks about a host, as in `docker-credential-NAME`.
    pub(crate) fn helper(&self, host: &str) -> Option<&str> {
        self.json.get("credHelpers").and_then(|it| it.get(host)).and_then(Value::as_str)
    }

    /// And where none is named for this host alone, the one for all.
    pub(crate) fn helper_or_store(&self, host: &str) -> Option<&str> {
        let store = || self.json.get("credsStore").and_then(Value::as_str);
        self.helper(host).or_else(store).filter(|it| !it.is_empty())
    }

    /// Docker asks a helper instead, if one is named: what is written would never be looked at.
    pub(crate) fn check_that_it_is_read(&self, host: &str) -> Result<(), Failure> {
        let Some(helper) = self.helper_or_store(host) else { return Ok(()) };
        Err(Failure::Settings(format!(
            "{} sends docker to docker-credential-{} for {host}: take that out, or use `rise-registry exec`",
            self.path.display(),
            shown(helper)
        )))
    }

    pub(crate) fn add(&mut self, place: &str, credentials: &Credentials) {
        let auths = self.json.entry("auths").or_insert_with(|| json!({}));
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(place.to_owned(), entry(credentials));
        }
    }

    /// With mode 0600: there are secrets in it from now on.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let failed = |what: &dyn std::fmt::Display| {
            Failure::Files(format!("{} cannot be written: {what}", self.path.display()))
        };
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        }
        let mut text = Zeroizing::new(Vec::new());
        // As docker writes it.
        let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut *text, form);
        self.json.serialize(&mut serializer).map_err(|error| failed(&error))?;
        files::write_private(&self.path, &String::from_utf8_lossy(&text))
            .map_err(|error| failed(&error))
    }
}

/// The password, and the form in which it stands in files.
pub(crate) fn secrets(credentials: &Credentials) -> [Zeroizing<String>; 2] {
    let password = Zeroizing::new(credentials.password.expose().to_owned());
    [password, basic(credentials)]
}

fn basic(credentials: &Credentials) -> Zeroizing<String> {
    let pair =
        Zeroizing::new(format!("{}:{}", credentials.username, credentials.password.expose()));
    Zeroizing::new(STANDARD.encode(pair.as_bytes()))
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
