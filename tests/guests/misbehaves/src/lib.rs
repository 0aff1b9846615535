//! Uses up the host's resources, or returns results that no caller may get. `how` selects which.
//!
//! The host also limits tables, but Rust cannot grow one.

#![allow(clippy::unnecessary_wraps, reason = "every way to misbehave ends as `issue` ends")]

mod exhaust;

use std::sync::atomic::{AtomicU64, Ordering};

use rise_provider::{
    Credential, Error, Grant, Issued, Location, Login, Problem, Provider, Scope, Secret,
    SecretName, log,
};
use schemars::JsonSchema;
use serde::Deserialize;

struct Misbehaves;

rise_provider::export_provider!(Misbehaves);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    registry_url: String,
    username: Option<String>,
    password: Option<SecretName>,
    /// One of the names that `issue` matches.
    how: String,
}

impl Provider for Misbehaves {
    type Settings = Settings;

    const NAME: &'static str = "misbehaves";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "Does what a provider must not do";

    fn check(settings: &Settings) -> Result<Scope, Vec<Problem>> {
        Ok(if settings.how == "says-repository" { Scope::Repository } else { Scope::Registry })
    }

    fn locate(settings: &Settings, project: &str) -> Result<Location, Error> {
        Ok(Location { host: settings.registry_url.clone(), repository: project.to_owned() })
    }

    fn resolve(settings: &Settings, location: &Location) -> Option<String> {
        (location.host == settings.registry_url).then(|| location.repository.clone())
    }

    fn issue(settings: &Settings, grant: &Grant) -> Result<Issued, Error> {
        let later = Some(grant.now() + 3600);
        match settings.how.as_str() {
            "loop" => exhaust::time(),
            "recurse" => exhaust::stack(),
            "recurse-in-memory" => exhaust::stack_in_memory(),
            "memory" => exhaust::memory(),
            "handles" => exhaust::handles(),
            "giant-string" => exhaust::host_call(),
            "host-call" => exhaust::host_call_bytes(),
            "log-line" => exhaust::log_line(),
            "secrets" => exhaust::secrets(),
            "many-secrets" => exhaust::many_secrets(),
            "log-flood" => exhaust::log_lines(),
            "trap" => exhaust::trap(),
            "log-password" => log_username(settings),
            "giant-result" => login(&"u".repeat(1 << 20), "p", later),
            "crlf-username" => login("ci\r\nX-Injected: yes", "p", later),
            "colon-username" => login("ci:injected", "p", later),
            "made-up-password" => login("ci", "hunter2", later),
            "none-password" => login("ci", "", later),
            "expired" => login("ci", "p", Some(grant.now().saturating_sub(1))),
            "expiry-zero" => login("ci", "p", Some(0)),
            "expiry-never" => login("ci", "p", Some(u64::MAX)),
            "state" => login(&calls_so_far().to_string(), "p", later),
            "no-credential" => Ok(Issued { credential: Credential::ClientAuth, expires_at: None }),
            "secret-as-password" | "says-repository" => configured(settings),
            how => Err(error(how)),
        }
    }
}

fn login(username: &str, password: &str, expires_at: Option<u64>) -> Result<Issued, Error> {
    let login = Login { username: username.to_owned(), password: Secret::new(password) };
    Ok(Issued { credential: Credential::Basic(login), expires_at })
}

fn configured(settings: &Settings) -> Result<Issued, Error> {
    let missing = || Error::InvalidSettings("expected a password".to_owned());
    let password = settings.password.as_ref().ok_or_else(missing)?.get()?;
    let username = settings.username.clone().unwrap_or_else(|| "ci".to_owned());
    Ok(Issued { credential: Credential::Basic(Login { username, password }), expires_at: None })
}

/// Logs everything that it has, which must not include the password.
fn log_username(settings: &Settings) -> Result<Issued, Error> {
    log::error(&format!("{:?} {:?}", settings.username, settings.password));
    configured(settings)
}

/// It is more than one only if an instance outlives its call.
fn calls_so_far() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) + 1
}

fn error(how: &str) -> Error {
    let text = "said by misbehaves".to_owned();
    match how {
        "error-refused" => Error::Refused(text),
        "error-denied" => Error::Denied(text),
        "error-not-found" => Error::NotFound(text),
        "error-throttled" => Error::Throttled(Some(7)),
        "error-throttled-unknown" => Error::Throttled(None),
        "error-unavailable" => Error::Unavailable(text),
        "error-unsupported" => Error::Unsupported(text),
        "error-failed" => Error::Failed(text),
        "error-giant" => Error::Failed("x".repeat(1 << 20)),
        "error-invalid-settings" => Error::InvalidSettings(text),
        _ => Error::InvalidSettings(format!("unknown way to misbehave: {how}")),
    }
}
