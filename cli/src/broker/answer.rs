//! The credentials in the broker's answer.
//!
//! Each member is checked before use, because members become lines of environment files, HTTP
//! headers and file names.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::names;
use rise_secret::Secret;

const LONGEST_USER: usize = 1_024;
const LONGEST_PASSWORD: usize = 64 * 1024;

/// Credentials for one repository. Unlike the JSON, the members are not nested.
pub(crate) struct Credentials {
    /// `HOST` or `HOST:PORT`.
    pub(crate) registry_url: String,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) kind: Kind,
    /// Time of expiry as the broker wrote it.
    pub(crate) expires_at: Option<String>,
    /// Remaining seconds at the time of the answer.
    pub(crate) expires_in: Option<u64>,
    pub(crate) repository: String,
    pub(crate) image: String,
    pub(crate) project: String,
    pub(crate) registry: String,
    pub(crate) actions: Vec<String>,
    /// When the broker has a newer credential, as it wrote it.
    pub(crate) refresh_after: Option<String>,
    pub(crate) scope: String,
    pub(crate) enforced_by: String,
    /// Whether it can be given back. Older brokers do not state it.
    pub(crate) revocable: bool,
    pub(crate) request_id: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The password belongs to a user name.
    Basic,
    /// The password is a token that the registry accepts directly.
    Bearer,
    /// The password is a token that the registry exchanges for other tokens.
    Refresh,
    /// The broker issues no credential: callers use their own login.
    ClientAuth,
}

/// The JSON of the API. Members that later versions add are ignored.
#[derive(Deserialize, Serialize)]
pub(crate) struct CredentialsForm<S> {
    credentials: LoginForm<S>,
    repository: String,
    image: String,
    project: String,
    registry: String,
    actions: Vec<String>,
    #[serde(default)]
    refresh_after: Option<String>,
    scope: String,
    enforced_by: String,
    #[serde(default)]
    revocable: bool,
    request_id: String,
}

#[derive(Deserialize, Serialize)]
struct LoginForm<S> {
    registry_url: String,
    username: String,
    password: S,
    expires_in: Option<u64>,
    expires_at: Option<String>,
    kind: Kind,
}

impl Credentials {
    /// The error describes what is wrong without quoting the text.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        let form: CredentialsForm<Secret> = serde_json::from_slice(json).map_err(|error| {
            // A message of serde_json can quote a value, and values are secrets.
            format!(
                "its JSON is not that of credentials, line {} column {}",
                error.line(),
                error.column()
            )
        })?;
        Self::of(form)
    }

    pub(crate) fn of(form: CredentialsForm<Secret>) -> Result<Self, String> {
        let credentials = Self {
            registry_url: form.credentials.registry_url,
            username: form.credentials.username,
            password: form.credentials.password,
            kind: form.credentials.kind,
            expires_at: form.credentials.expires_at,
            expires_in: form.credentials.expires_in,
            repository: form.repository,
            image: form.image,
            project: form.project,
            registry: form.registry,
            actions: form.actions,
            refresh_after: form.refresh_after,
            scope: form.scope,
            enforced_by: form.enforced_by,
            revocable: form.revocable,
            request_id: form.request_id,
        };
        credentials.check()?;
        Ok(credentials)
    }

    fn check(&self) -> Result<(), String> {
        let visible =
            |text: &str, longest| text.len() <= longest && !text.chars().any(char::is_control);
        let mut texts = vec![&self.scope, &self.enforced_by, &self.request_id];
        texts.extend(&self.actions);
        texts.extend(&self.expires_at);
        texts.extend(&self.refresh_after);
        let wrong = if !names::is_host(&self.registry_url) {
            "registry_url"
        } else if !names::is_image(&self.image) || !names::is_image(&self.repository) {
            "image"
        } else if names::project(&self.project, "").is_err() {
            "project"
        } else if names::registry(&self.registry, "").is_err() {
            "registry"
        } else if !visible(&self.username, LONGEST_USER) {
            "username"
        } else if !visible(self.password.expose(), LONGEST_PASSWORD) {
            "password"
        } else if self.actions.len() > 16 || !texts.iter().all(|text| visible(text, 256)) {
            "actions, times, scope or request_id"
        } else if self.kind != Kind::ClientAuth && self.password.expose().is_empty() {
            "password"
        } else {
            return Ok(());
        };
        Err(format!("its `{wrong}` is invalid"))
    }

    /// The JSON of the API with `expires_in` counted from now. It contains the password.
    pub(crate) fn json(&self, expires_in: Option<u64>) -> Zeroizing<String> {
        let mut form = self.form();
        form.credentials.expires_in = expires_in;
        Zeroizing::new(serde_json::to_string(&form).unwrap_or_default())
    }

    pub(crate) fn form(&self) -> CredentialsForm<&str> {
        CredentialsForm {
            credentials: LoginForm {
                registry_url: self.registry_url.clone(),
                username: self.username.clone(),
                password: self.password.expose(),
                expires_in: self.expires_in,
                expires_at: self.expires_at.clone(),
                kind: self.kind,
            },
            repository: self.repository.clone(),
            image: self.image.clone(),
            project: self.project.clone(),
            registry: self.registry.clone(),
            actions: self.actions.clone(),
            refresh_after: self.refresh_after.clone(),
            scope: self.scope.clone(),
            enforced_by: self.enforced_by.clone(),
            revocable: self.revocable,
            request_id: self.request_id.clone(),
        }
    }

    /// User name and password as docker sends them to a registry. `None` if docker cannot store
    /// this kind of credential.
    pub(crate) fn login(&self) -> Option<(&str, &Secret)> {
        match self.kind {
            Kind::Basic => Some((&self.username, &self.password)),
            // Docker's user name for an identity token.
            Kind::Refresh => Some(("<token>", &self.password)),
            Kind::Bearer | Kind::ClientAuth => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"credentials":{"registry_url":"r.example.com:5000","username":"u",
        "password":"s3cret","expires_in":3600,"expires_at":"2026-11-21T13:39:53Z","kind":"basic",
        "later":1},"repository":"rise/my-app",
        "image":"r.example.com:5000/rise/my-app","project":"my-app","registry":"prod",
        "actions":["pull","push"],"scope":"repository","enforced_by":"host",
        "request_id":"01M7XW52RJVA23PFBZSRPG9G5D","later":{}}"#;

    #[test]
    fn an_answer_is_read_and_written() {
        let credentials = Credentials::read(ANSWER.as_bytes()).ok().unwrap();
        assert_eq!(credentials.login().unwrap().0, "u");
        let again = Credentials::read(credentials.json(Some(3600)).as_bytes()).ok().unwrap();
        assert_eq!(again.json(None), credentials.json(None));
        assert_eq!(again.expires_in, Some(3600));
    }

    #[test]
    fn a_harmful_answer_is_rejected_without_quoting_it() {
        for (from, to) in [
            ("r.example.com:5000\",\"u", "r.example.com/x\",\"u"),
            ("\"username\":\"u\"", "\"username\":\"u\\n::set-env\""),
            ("s3cret", "s3cret\\nPATH=/evil"),
            ("s3cret", ""),
            ("\"project\":\"my-app\"", "\"project\":\"../..\""),
            ("rise/my-app\",\n", "rise/my app\",\n"),
            ("\"basic\"", "\"s3cret-kind\""),
            ("\"expires_in\":3600", "\"expires_in\":\"s3cret\""),
            ("{\"credentials\"", "{\"credentials"),
        ] {
            let text = ANSWER.replacen(from, to, 1).replacen(
                "\"r.example.com:5000\"",
                if from.starts_with("r.") { "\"a/b\"" } else { "\"r.example.com:5000\"" },
                1,
            );
            let why = Credentials::read(text.as_bytes()).err().unwrap_or_else(|| panic!("{to}"));
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
