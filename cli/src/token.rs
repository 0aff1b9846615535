//! The sources of the caller's token. The first source that is present is used, even if it fails:
//! trying the next one would hide a broken source.
//!
//! To add one: a variant of [`TokenSource`] and a line in [`ORDER`].

mod buildkite;
mod command;
mod github;
mod login;
mod program;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(crate) use self::login::{RemovedLogin, StoredLogin};

use crate::claims::Claims;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::files;
use crate::patience::Patience;
use crate::settings::Settings;
use rise_secret::Secret;

/// Bytes. Tokens with many groups have 20 KiB and more. The broker has its own limit.
const LONGEST: u64 = 64 * 1024;
/// The token at `kubernetes.io/serviceaccount` is never sent: it is for the API server and would
/// let its receiver act there.
const PROJECTED: &str = "var/run/secrets/rise-registry/token";

/// The variables that hold a token, name its file or request it.
const VARIABLES: [&str; 6] = [
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "BUILDKITE_AGENT_ACCESS_TOKEN",
    "RISE_ID_TOKEN",
    "RISE_TOKEN",
    "RISE_TOKEN_COMMAND",
    "RISE_TOKEN_FILE",
];

/// Finds a source if it is present.
type Find = fn(&Settings, &Environment) -> Result<Option<TokenSource>, Failure>;

/// The sources in order, with the names that `doctor` prints.
pub(crate) const ORDER: &[(&str, Find)] = &[
    ("a token file (--token-file, RISE_TOKEN_FILE)", token_file),
    ("RISE_TOKEN", |_, environment| Ok(variable(environment, "RISE_TOKEN"))),
    ("token_command (RISE_TOKEN_COMMAND)", |settings, _| {
        Ok(command::TokenCommand::of(settings).map(TokenSource::Command))
    }),
    ("GitHub Actions", |_, environment| {
        Ok(github::GithubJob::of(environment).map(TokenSource::GitHub))
    }),
    ("RISE_ID_TOKEN (GitLab)", |_, environment| Ok(variable(environment, "RISE_ID_TOKEN"))),
    ("Buildkite", |_, environment| {
        Ok(buildkite::BuildkiteJob::of(environment).map(TokenSource::Buildkite))
    }),
    ("a projected Kubernetes token", projected),
    ("a stored login", stored_login),
];

/// A source that has a token or can request one.
pub(crate) enum TokenSource {
    File {
        path: PathBuf,
        text: Secret,
    },
    Variable {
        name: &'static str,
        text: Secret,
    },
    /// A program of the caller's choice.
    Command(command::TokenCommand),
    GitHub(github::GithubJob),
    Buildkite(buildkite::BuildkiteJob),
    Kubernetes {
        path: PathBuf,
        text: Secret,
    },
    /// The token of the pod's service account, which the kubelet passes on.
    ServiceAccount {
        text: Secret,
    },
    /// The stored login of `rise-registry login`.
    Login(Box<StoredLogin>),
}

/// A token and its claims, which nobody has verified.
pub(crate) struct Token {
    pub(crate) secret: Secret,
    pub(crate) claims: Claims,
}

impl TokenSource {
    pub(crate) fn find(settings: &Settings, environment: &Environment) -> Result<Self, Failure> {
        for (_, find) in ORDER {
            if let Some(source) = find(settings, environment)? {
                return Ok(source);
            }
        }
        Err(missing(environment))
    }

    /// The source's name in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File { path, .. } => format!("the file {}", path.display()),
            Self::Variable { name, .. } => (*name).to_owned(),
            Self::Command(command) => command.name(),
            Self::GitHub(_) => "GitHub Actions".to_owned(),
            Self::Buildkite(_) => "Buildkite".to_owned(),
            Self::Login(stored) => format!("the stored login at {}", stored.login.issuer),
            Self::ServiceAccount { .. } => "the pod's service account".to_owned(),
            Self::Kubernetes { path, .. } => format!("the Kubernetes token {}", path.display()),
        }
    }

    /// Identifies the owner of the tokens without requesting one, so that no other caller gets a
    /// cached credential: the token's claims except its times and number, or the CI job.
    pub(crate) fn identity(&self, settings: &Settings) -> String {
        let digest = match self {
            Self::File { text, .. }
            | Self::Variable { text, .. }
            | Self::Kubernetes { text, .. }
            | Self::ServiceAccount { text } => {
                Sha256::digest(Claims::of(text).lasting(text).as_bytes())
            }
            Self::Login(stored) => {
                Sha256::digest(Claims::of(&stored.token).lasting(&stored.token).as_bytes())
            }
            Self::Command(command) => {
                Sha256::digest(command.identity(&settings.audience.value).as_bytes())
            }
            Self::GitHub(job) => Sha256::digest(job.identity(&settings.audience.value).as_bytes()),
            Self::Buildkite(job) => {
                Sha256::digest(job.identity(&settings.audience.value).as_bytes())
            }
        };
        hex::encode(digest)
    }

    /// Whether reading or asking again may give a later token.
    pub(crate) fn is_renewable(&self) -> bool {
        match self {
            Self::File { .. }
            | Self::Command(_)
            | Self::GitHub(_)
            | Self::Buildkite(_)
            | Self::Kubernetes { .. }
            | Self::Login(_) => true,
            Self::Variable { .. } | Self::ServiceAccount { .. } => false,
        }
    }

    /// Returns the token, which some sources request first.
    pub(crate) fn token(
        &self,
        settings: &Settings,
        environment: &Environment,
        patience: Patience,
    ) -> Result<Token, Failure> {
        let secret = match self {
            Self::File { text, .. }
            | Self::Variable { text, .. }
            | Self::Kubernetes { text, .. }
            | Self::ServiceAccount { text } => Secret::new(text.expose().to_owned()),
            Self::Command(command) => command.token(settings, patience)?,
            Self::Login(stored) => stored.token(settings, environment, patience)?,
            Self::GitHub(job) => job.token(settings, environment, patience)?,
            Self::Buildkite(job) => job.token(&settings.audience.value, patience)?,
        };
        Token::new(secret, &self.name())
    }
}

impl Token {
    /// `source` names where the text comes from. A text that is no token is not sent.
    pub(crate) fn new(secret: Secret, source: &str) -> Result<Self, Failure> {
        let length = secret.expose().len();
        if length as u64 > LONGEST {
            return Err(Failure::Token(format!(
                "{source} contains no token: it has {length} bytes, and no token has more than \
                 {LONGEST}"
            )));
        }
        if let Some(what) = why_no_token(secret.expose()) {
            return Err(Failure::Token(format!("{source} contains no token: it {what}")));
        }
        let claims = Claims::of(&secret);
        Ok(Self { secret, claims })
    }
}

/// The mistake in a text that is not three parts of base64url (a JWT). The text is not quoted.
fn why_no_token(text: &str) -> Option<&'static str> {
    let is_part = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
        !part.is_empty() && part.bytes().all(fits)
    };
    let lower = text.to_ascii_lowercase();
    Some(if text.is_empty() {
        "is empty"
    } else if lower.starts_with("bearer ") {
        "starts with `Bearer`: leave this word out"
    } else if text.starts_with(['"', '\'']) {
        "is in quotation marks: leave them out"
    } else if text.starts_with(['/', '~']) || text.starts_with("./") {
        "is a path: name a file by RISE_TOKEN_FILE"
    } else if text.starts_with(['{', '[']) {
        "is JSON: take the token out of it"
    } else if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        "has spaces, line breaks or letters that no token has"
    } else if text.split('.').count() != 3 || !text.split('.').all(is_part) {
        "is not a JWT, which is three parts with dots between them"
    } else {
        return None;
    })
}

fn token_file(settings: &Settings, _: &Environment) -> Result<Option<TokenSource>, Failure> {
    let Some(said) = &settings.token_file else { return Ok(None) };
    let text = read(&said.value)?.ok_or_else(|| {
        let path = said.value.display();
        Failure::Token(format!(
            "{}: {path} does not exist: put a token there, or name another file",
            said.origin
        ))
    })?;
    Ok(Some(TokenSource::File { path: said.value.clone(), text }))
}

fn projected(_: &Settings, environment: &Environment) -> Result<Option<TokenSource>, Failure> {
    let path = environment.root.join(PROJECTED);
    Ok(read(&path)?.map(|text| TokenSource::Kubernetes { path, text }))
}

fn stored_login(
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<TokenSource>, Failure> {
    let stored = StoredLogin::for_the_broker(settings, environment)?;
    Ok(stored.map(|stored| TokenSource::Login(Box::new(stored))))
}

fn variable(environment: &Environment, name: &'static str) -> Option<TokenSource> {
    let text = environment.secret(name)?.expose().trim().to_owned();
    Some(TokenSource::Variable { name, text: Secret::new(text) })
}

fn read(path: &Path) -> Result<Option<Secret>, Failure> {
    let text = files::read(path, LONGEST)
        .map_err(|error| Failure::Token(format!("the token file {}: {error}", path.display())))?;
    Ok(text.map(|text| Secret::new(text.trim().to_owned())))
}

/// Names the remedy that is most likely to work where this runs.
fn missing(environment: &Environment) -> Failure {
    let what = if environment.text("GITHUB_ACTIONS").is_some() {
        "give the job `permissions: id-token: write`"
    } else if environment.text("KUBERNETES_SERVICE_HOST").is_some() {
        "project a service-account token for the broker's audience to \
         /var/run/secrets/rise-registry/token"
    } else {
        "set RISE_TOKEN_FILE or RISE_TOKEN, or run `rise-registry login`"
    };
    let empty = environment.empty_among(&VARIABLES);
    Failure::Token(format!("there is no token for the broker: {what}{empty}"))
}

#[cfg(test)]
mod tests;
