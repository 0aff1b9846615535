//! The settings of a run and their origins: flags, then `RISE_*`, then `.rise.toml`, then
//! `~/.config/rise/registry.toml`. The first origin that has a value wins.
//!
//! **Invariant:** `.rise.toml` comes with a checkout and may be hostile, so it never decides where
//! a token is sent.

mod checkout;
mod file;
mod url;
mod wait;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

pub(crate) use self::file::{HostSettings, LoginSettings, SettingsFile};
pub(crate) use self::url::BrokerUrl;
pub(crate) use self::wait::lifetime;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::names;

pub(crate) const DEFAULT_AUDIENCE: &str = "rise-registry";

/// The flags of every command.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::doc_markdown, reason = "help for terminals is not Markdown")]
#[command(next_help_heading = "Settings")]
pub(crate) struct Flags {
    /// URL of the broker: https, or http on this machine [environment: RISE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// File that contains the token [environment: RISE_TOKEN_FILE; RISE_TOKEN is the token itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Project that credentials are for [environment: RISE_PROJECT]
    #[arg(long, global = true)]
    pub(crate) project: Option<String>,
    /// Name of one of the broker's registries [environment: RISE_REGISTRY]
    #[arg(long, global = true)]
    pub(crate) registry: Option<String>,
    /// Audience of tokens that a CI system issues [environment: RISE_AUDIENCE; default:
    /// rise-registry]
    #[arg(long, global = true)]
    pub(crate) audience: Option<String>,
    /// PEM file with the only CA certificates to trust [environment: RISE_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Longest wait for a broker that cannot answer now: 90s, 2m, or 0 to try once [environment:
    /// RISE_WAIT; default: 60s]
    #[arg(long, global = true, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
    /// Print only answers and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// The flag, variable or file that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) url: Option<Stated<BrokerUrl>>,
    pub(crate) token_file: Option<Stated<PathBuf>>,
    /// A command for `sh -c` that prints a token.
    pub(crate) token_command: Option<Stated<String>>,
    pub(crate) project: Option<Stated<String>>,
    pub(crate) registry: Option<Stated<String>>,
    pub(crate) audience: Stated<String>,
    pub(crate) ca_file: Option<Stated<PathBuf>>,
    /// How long a run may wait for a broker that cannot answer now.
    pub(crate) wait: Option<Stated<Duration>>,
    pub(crate) login: Option<LoginSettings>,
    /// Whether `docker login` and `docker logout` succeed without doing anything.
    pub(crate) ignore_store: bool,
    /// The project and registry of each host.
    pub(crate) hosts: BTreeMap<String, HostSettings>,
    /// The settings file, if it exists.
    pub(crate) file: Option<PathBuf>,
    /// The `.rise.toml`, if one exists.
    pub(crate) checkout: Option<PathBuf>,
    /// Ends of messages about a missing URL and a missing project.
    pub(crate) empty: [String; 2],
}

impl Settings {
    pub(crate) fn load(flags: &Flags, environment: &Environment) -> Result<Self, Failure> {
        environment.check()?;
        let (file, file_path) = SettingsFile::load(environment)?;
        let (checkout, checkout_path) = checkout::Checkout::find(environment.working_directory())?;
        let from = |path: &Option<PathBuf>| Origin::File(path.clone().unwrap_or_default());
        let first = |flag: (&'static str, &Option<String>),
                     variable: &'static str,
                     checkout: Option<String>,
                     file: Option<String>| {
            said(flag.1.clone(), Origin::Flag(flag.0))
                .or_else(|| said(environment.text(variable), Origin::Variable(variable)))
                .or_else(|| said(checkout, from(&checkout_path)))
                .or_else(|| said(file, from(&file_path)))
        };
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let path = |flag, value: &Option<PathBuf>, variable, file: &Option<PathBuf>| {
            first((flag, &text(value)), variable, None, text(file))
                .map(|Stated { value, origin }| Stated { value: PathBuf::from(value), origin })
        };
        let url = first(("--url", &flags.url), "RISE_URL", None, file.url.clone());
        let project = first(
            ("--project", &flags.project),
            "RISE_PROJECT",
            checkout.project,
            file.project.clone(),
        );
        let registry = first(
            ("--registry", &flags.registry),
            "RISE_REGISTRY",
            checkout.registry,
            file.registry.clone(),
        );
        let audience =
            first(("--audience", &flags.audience), "RISE_AUDIENCE", None, file.audience.clone());
        let token_command =
            first(("", &None), "RISE_TOKEN_COMMAND", None, file.token_command.clone());
        let wait = first(("--wait", &flags.wait), "RISE_WAIT", None, file.wait.clone());
        let default = || Stated { value: DEFAULT_AUDIENCE.to_owned(), origin: Origin::Default };
        Ok(Self {
            url: checked(url, url_of_a_broker)?,
            token_file: path(
                "--token-file",
                &flags.token_file,
                "RISE_TOKEN_FILE",
                &file.token_file,
            ),
            token_command,
            project: checked(project, names::project)?,
            registry: checked(registry, names::registry)?,
            audience: checked(audience, audience_name)?.unwrap_or_else(default),
            ca_file: path("--ca-file", &flags.ca_file, "RISE_CA_FILE", &file.ca_file),
            wait: checked(wait, wait::parse)?,
            login: file.login,
            ignore_store: ignore_store(environment)?.unwrap_or(file.ignore_store),
            hosts: file.hosts,
            file: file_path,
            checkout: checkout_path,
            empty: ["RISE_URL", "RISE_PROJECT"].map(|name| environment.empty_among(&[name])),
        })
    }

    pub(crate) fn url(&self) -> Result<&BrokerUrl, Failure> {
        self.url.as_ref().map(|url| &url.value).ok_or_else(|| {
            let [empty, _] = &self.empty;
            Failure::Settings(format!(
                "no broker is configured: set RISE_URL, or `url` in \
                 ~/.config/rise/registry.toml{empty}"
            ))
        })
    }

    pub(crate) fn project(&self) -> Result<&str, Failure> {
        self.project.as_ref().map(|project| project.value.as_str()).ok_or_else(|| {
            let [_, empty] = &self.empty;
            Failure::Settings(format!(
                "no project is named: use --project, RISE_PROJECT, or `project = \"…\"` in \
                 .rise.toml{empty}"
            ))
        })
    }

    pub(crate) fn registry(&self) -> Option<&str> {
        self.registry.as_ref().map(|registry| registry.value.as_str())
    }
}

fn said<T>(value: Option<impl Into<T>>, origin: Origin) -> Option<Stated<T>> {
    value.map(|value| Stated { value: value.into(), origin })
}

fn checked<T>(
    said: Option<Stated<String>>,
    parse: impl FnOnce(&str, &str) -> Result<T, Failure>,
) -> Result<Option<Stated<T>>, Failure> {
    said.map(|said| {
        let value = parse(&said.value, &said.origin.to_string())?;
        Ok(Stated { value, origin: said.origin })
    })
    .transpose()
}

/// A gateway may serve the broker below a path, but never below that of the API itself.
fn url_of_a_broker(text: &str, origin: &str) -> Result<BrokerUrl, Failure> {
    let url = BrokerUrl::parse(text, origin)?;
    let end = ["/api/v1", "/registry/credentials"].iter().find_map(|path| url.as_str().find(path));
    match end.and_then(|end| url.as_str().get(..end)) {
        None => Ok(url),
        Some(base) => Err(Failure::Settings(format!(
            "{origin}: it contains the path of the API, which the programs add: end it before \
             /api, as in {}",
            crate::failure::shown(base)
        ))),
    }
}

fn audience_name(text: &str, origin: &str) -> Result<String, Failure> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Failure::Settings(format!(
            "{origin}: an audience is 1 to 255 visible ASCII characters; use `auth.audience` of \
             the broker's settings"
        ))
    })
}

fn ignore_store(environment: &Environment) -> Result<Option<bool>, Failure> {
    match environment.text("RISE_IGNORE_STORE") {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Failure::Settings("RISE_IGNORE_STORE: must be true or false".to_owned())),
    }
}

/// The path of the settings file, whether it exists or not.
pub(crate) fn file_path(environment: &Environment) -> Option<PathBuf> {
    environment.configuration_directory().map(|folder| folder.join("registry.toml"))
}

/// The failure for a settings file that cannot be read.
fn unreadable(path: &Path, what: &impl fmt::Display) -> Failure {
    Failure::Settings(format!("{}: {}", path.display(), crate::failure::shown(&what.to_string())))
}

#[cfg(test)]
mod tests;
