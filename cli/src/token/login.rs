//! A stored login: a refresh token and the last token, in a file of mode 0600.
//!
//! **Invariant:** the token is sent only to the broker that the login was made for, and the refresh
//! token only to its issuer.
//! **Invariant:** the file is replaced and deleted by a process that holds the lock beside it. The
//! lock's own file stays: a process that waits for a deleted one would lock nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::deadline::{Deadline, now};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::files;
use crate::oidc::{IssuedTokens, Issuer};
use crate::patience::Patience;
use crate::settings::{LoginSettings, Settings};
use rise_secret::Secret;

const LONGEST: u64 = 256 * 1024;
/// Seconds. A token that expires sooner is renewed.
const LEAST: u64 = 60;
/// Seconds of validity of a token without `exp`.
const UNSAID: u64 = 300;
const POLL: Duration = Duration::from_millis(20);

#[derive(Deserialize, Serialize)]
struct StoredForm<S> {
    /// URL of the broker.
    url: String,
    issuer: String,
    client_id: String,
    token: S,
    refresh_token: Option<S>,
}

/// The stored login and its file.
pub(crate) struct StoredLogin {
    path: PathBuf,
    url: String,
    pub(crate) login: LoginSettings,
    pub(super) token: Secret,
    pub(crate) refresh_token: Option<Secret>,
}

/// What [`StoredLogin::remove`] deleted.
pub(crate) enum RemovedLogin {
    Nobody,
    /// A file that could not be read.
    Damaged,
    Login(Box<StoredLogin>),
}

impl StoredLogin {
    /// Makes a login of the issuer's answer. Nothing is written yet.
    pub(crate) fn new(
        login: LoginSettings,
        mut tokens: IssuedTokens,
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let token =
            tokens.for_the_broker(&settings.audience.value).ok_or_else(|| no_token(&login))?;
        let url = settings.url()?.as_str().to_owned();
        let path = path(environment)
            .ok_or_else(|| Failure::Files("HOME is not set to a folder: set it".to_owned()))?;
        Ok(Self { path, url, login, token, refresh_token: tokens.refresh_token })
    }

    fn load(environment: &Environment) -> Result<Option<Self>, Failure> {
        path(environment).map_or(Ok(None), |path| Self::read(&path))
    }

    /// The stored login, if it is for the broker of `settings`.
    pub(crate) fn for_the_broker(
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Option<Self>, Failure> {
        let Some(stored) = Self::load(environment)? else { return Ok(None) };
        match settings.url() {
            Ok(url) if url.as_str() != stored.url => Err(Failure::Token(format!(
                "the stored login is for {} and is sent to no other broker: run `rise-registry \
                 login` for {url}",
                crate::failure::shown(&stored.url)
            ))),
            _ => Ok(Some(stored)),
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::Token(format!(
                "the login in {} cannot be used ({what}): run `rise-registry login`",
                path.display()
            ))
        };
        let text = files::read_private(path, LONGEST).map_err(|error| wrong(&error))?;
        let Some(text) = text else { return Ok(None) };
        let form: StoredForm<Secret> =
            serde_json::from_str(&text).map_err(|_| wrong(&"it is damaged"))?;
        Ok(Some(Self {
            path: path.to_owned(),
            url: form.url,
            login: LoginSettings { issuer: form.issuer, client_id: form.client_id },
            token: form.token,
            refresh_token: form.refresh_token,
        }))
    }

    /// Writes a new login.
    pub(crate) fn save(&self, deadline: Deadline) -> Result<(), Failure> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| self.unwritten(&error.into()))?;
        }
        let _lock = lock(&self.path, deadline)?;
        self.write()
    }

    /// The caller holds the lock.
    fn write(&self) -> Result<(), Failure> {
        let form = StoredForm {
            url: self.url.clone(),
            issuer: self.login.issuer.clone(),
            client_id: self.login.client_id.clone(),
            token: self.token.expose(),
            refresh_token: self.refresh_token.as_ref().map(Secret::expose),
        };
        let text = Zeroizing::new(serde_json::to_string(&form).unwrap_or_default());
        files::write_private(&self.path, &text).map_err(|error| self.unwritten(&error))
    }

    fn unwritten(&self, error: &files::FileError) -> Failure {
        Failure::Files(format!("{} cannot be written: {error}", self.path.display()))
    }

    /// Deletes the login after a renewal that is under way, which would write it again.
    pub(crate) fn remove(
        environment: &Environment,
        deadline: Deadline,
    ) -> Result<RemovedLogin, Failure> {
        let path = path(environment).filter(|path| std::fs::symlink_metadata(path).is_ok());
        let Some(path) = path else { return Ok(RemovedLogin::Nobody) };
        let _lock = lock(&path, deadline)?;
        let stored = Self::read(&path);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(match stored {
                Ok(Some(stored)) => RemovedLogin::Login(Box::new(stored)),
                Ok(None) | Err(_) => RemovedLogin::Damaged,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(RemovedLogin::Nobody),
            Err(error) => {
                Err(Failure::Files(format!("{} cannot be removed: {error}", path.display())))
            }
        }
    }

    /// The last token, or a new one. One process at a time renews it, because many issuers accept a
    /// refresh token only once.
    pub(crate) fn token(
        &self,
        settings: &Settings,
        environment: &Environment,
        patience: Patience,
    ) -> Result<Secret, Failure> {
        if self.is_good() {
            return Ok(Secret::new(self.token.expose().to_owned()));
        }
        let _lock = lock(&self.path, patience.deadline())?;
        let mut stored = Self::read(&self.path)?.ok_or_else(|| self.expired())?;
        if !stored.is_good() {
            stored.renew(settings, environment, patience)?;
            stored.write()?;
        }
        Ok(stored.token)
    }

    fn renew(
        &mut self,
        settings: &Settings,
        environment: &Environment,
        patience: Patience,
    ) -> Result<(), Failure> {
        let what = "asking the issuer for a token";
        let refresh_token = self.refresh_token.as_ref().ok_or_else(|| self.expired())?;
        let issuer = patience.repeat(what, |deadline| {
            Issuer::discover(&self.login, settings, environment, deadline)
        })?;
        let mut tokens =
            patience.repeat(what, |deadline| issuer.refresh(refresh_token, deadline))?;
        self.token =
            tokens.for_the_broker(&settings.audience.value).ok_or_else(|| no_token(&self.login))?;
        if let Some(next) = tokens.refresh_token {
            self.refresh_token = Some(next);
        }
        Ok(())
    }

    fn expired(&self) -> Failure {
        Failure::Token(format!(
            "the login at {} has expired: run `rise-registry login`",
            self.login.issuer
        ))
    }

    fn is_good(&self) -> bool {
        let claims = Claims::of(&self.token);
        let end = claims.time("exp").or_else(|| claims.time("iat").map(|at| at + UNSAID));
        end.is_some_and(|end| now() + LEAST < end)
    }
}

fn path(environment: &Environment) -> Option<PathBuf> {
    Some(environment.configuration_directory()?.join("login.json"))
}

/// Locks the login in the file `login`.
fn lock(login: &Path, deadline: Deadline) -> Result<File, Failure> {
    let path = login.with_extension("lock");
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Files(format!("{} cannot be written: {error}", path.display()))
    };
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|error| failed(&error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
            Err(TryLockError::WouldBlock) if deadline.is_over() => {
                return Err(Failure::Unavailable(
                    "another process has been renewing the login for too long: try again"
                        .to_owned(),
                ));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(POLL.min(deadline.remaining())),
        }
    }
}

fn no_token(login: &LoginSettings) -> Failure {
    Failure::Settings(format!(
        "the issuer at {} issues no ID token to the client {}: allow it the scope openid",
        login.issuer, login.client_id
    ))
}
