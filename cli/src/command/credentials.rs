//! `rise-registry credentials`: prints a credential. No other command prints a secret.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use super::{Done, mask};
use crate::app::App;
use crate::broker::{Credentials, Wanted};
use crate::docker::Auths;
use crate::failure::Failure;
use crate::{allowed, credentials, names, terminal};

#[derive(Args)]
pub(super) struct CredentialsArguments {
    #[command(flatten)]
    wanted: WantedArguments,
    /// Format of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print `::add-mask::` lines on stderr, so that GitHub Actions hides the password in its log
    #[arg(long)]
    add_mask: bool,
}

/// The arguments of all commands that request credentials.
#[derive(Args)]
pub(super) struct WantedArguments {
    /// `pull`, `push` or `pull,push`; default: all actions that you may perform
    #[arg(long, value_delimiter = ',', value_parser = ["pull", "push"])]
    actions: Vec<String>,
    /// Lifetime to request, a minute to 12 hours: 900, 15m, 1h
    #[arg(long, value_name = "DURATION", value_parser = crate::settings::lifetime)]
    lifetime: Option<u32>,
}

impl WantedArguments {
    pub(super) fn wanted(&self, app: &App) -> Result<Wanted, Failure> {
        Ok(Wanted {
            project: Some(app.settings.project()?.to_owned()),
            image: None,
            registry: app.settings.registry().map(ToOwned::to_owned),
            actions: self.actions.clone(),
            lifetime: self.lifetime,
        })
    }
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// The broker's answer
    #[default]
    Json,
    /// Lines for `eval` in a shell, with quotes where a shell needs them
    Env,
    /// The same lines without quotes, for `$GITHUB_ENV` and `docker run --env-file`
    EnvFile,
    /// A `config.json` for docker
    DockerConfig,
    /// Only the password, for `docker login --password-stdin`
    Password,
}

pub(super) fn run(app: &App, arguments: &CredentialsArguments) -> Done {
    let obtained = allowed::obtain(app, &arguments.wanted.wanted(app)?)?;
    super::print_complaints(app, &obtained.complaints);
    let credentials = &obtained.kept.credentials;
    if matches!(arguments.format, Format::DockerConfig | Format::Password) {
        super::must_have_a_login(credentials)?;
    }
    if arguments.add_mask {
        mask(credentials);
    }
    match arguments.format {
        Format::Json => terminal::line(&current(&obtained, app)),
        Format::Env => terminal::print(&environment(credentials, quoted)),
        Format::EnvFile => {
            let unquoted = |value: &str| Zeroizing::new(value.to_owned());
            terminal::print(&environment(credentials, unquoted));
        }
        Format::DockerConfig => {
            let mut auths = Auths::default();
            auths.add(names::docker_key(&credentials.registry_url), credentials);
            terminal::line(&auths.text());
        }
        Format::Password => terminal::line(credentials.password.expose()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer with the seconds that are left now, also if it comes from the cache.
fn current(obtained: &credentials::Obtained, app: &App) -> Zeroizing<String> {
    let left = obtained.kept.expires_at.saturating_sub((app.now)());
    obtained.kept.credentials.json(obtained.kept.credentials.expires_in.map(|_| left))
}

/// No value has a control character, so that each is one line.
fn environment(
    credentials: &Credentials,
    written: impl Fn(&str) -> Zeroizing<String>,
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for (name, value) in [
        ("REGISTRY_HOST", credentials.registry_url.as_str()),
        ("REGISTRY_IMAGE", &credentials.image),
        ("REGISTRY_USERNAME", &credentials.username),
        ("REGISTRY_PASSWORD", credentials.password.expose()),
        ("REGISTRY_EXPIRES_AT", credentials.expires_at.as_deref().unwrap_or_default()),
    ] {
        text.push_str(name);
        text.push('=');
        text.push_str(&written(value));
        text.push('\n');
    }
    text
}

/// Quotes a value for a shell, only where necessary.
fn quoted(value: &str) -> Zeroizing<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if value.bytes().all(plain) {
        return Zeroizing::new(value.to_owned());
    }
    Zeroizing::new(format!("'{}'", value.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_of_a_shell() {
        for (value, expected) in [
            ("", ""),
            ("eyJwYXlsb2Fk+/=", "eyJwYXlsb2Fk+/="),
            ("a b", "'a b'"),
            ("$(evil)`'", r"'$(evil)`'\'''"),
        ] {
            assert_eq!(quoted(value).as_str(), expected);
            let echoed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(value).as_str())])
                .output();
            assert_eq!(echoed.unwrap().stdout, value.as_bytes());
        }
    }
}
