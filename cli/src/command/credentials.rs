//! `rise-registry credentials`: prints what was asked for, and this is the one command whose answer is a secret.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use super::{Done, mask};
use crate::app::App;
use crate::broker::{Credentials, Wanted};
use crate::docker::Auths;
use crate::failure::Failure;
use crate::{credentials, terminal};

#[derive(Args)]
pub(super) struct CredentialsArguments {
    #[command(flatten)]
    wanted: WantedArguments,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Tell GitHub Actions by `::add-mask::` on stderr to hide the password in its logs
    #[arg(long)]
    add_mask: bool,
}

/// What all commands that make credentials understand.
#[derive(Args)]
pub(super) struct WantedArguments {
    /// `pull`, `push`, or both by a comma; left out: all that you may do
    #[arg(long, value_delimiter = ',', value_parser = ["pull", "push"])]
    actions: Vec<String>,
    /// A wish in seconds, 60 to 43200
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(60..=43_200))]
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
    /// Lines for a shell's `eval` and for `$GITHUB_ENV`
    Env,
    /// A `config.json` of docker
    DockerConfig,
    /// The password alone, for `docker login --password-stdin`
    Password,
}

pub(super) fn run(app: &App, arguments: &CredentialsArguments) -> Done {
    let obtained = credentials::obtain(app, &arguments.wanted.wanted(app)?)?;
    super::say(app, &obtained.complaints);
    let credentials = &obtained.kept.credentials;
    if arguments.add_mask {
        mask(credentials);
    }
    match arguments.format {
        Format::Json => terminal::line(&current(&obtained, app)),
        Format::Env => terminal::print(&environment(credentials)),
        Format::DockerConfig => {
            let mut auths = Auths::default();
            auths.add(&credentials.registry_url, credentials);
            terminal::line(&auths.text());
        }
        Format::Password => terminal::line(credentials.password.expose()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer, with the seconds that are left now if it comes from the cache.
fn current(obtained: &credentials::Obtained, app: &App) -> Zeroizing<String> {
    let left = obtained.kept.expires_at.saturating_sub((app.now)());
    obtained.kept.credentials.json(obtained.kept.credentials.expires_in.map(|_| left))
}

fn environment(it: &Credentials) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for (name, value) in [
        ("REGISTRY_HOST", it.registry_url.as_str()),
        ("REGISTRY_IMAGE", &it.image),
        ("REGISTRY_USERNAME", &it.username),
        ("REGISTRY_PASSWORD", it.password.expose()),
        ("REGISTRY_EXPIRES_AT", it.expires_at.as_deref().unwrap_or_default()),
    ] {
        text.push_str(name);
        text.push('=');
        text.push_str(&quoted(value));
        text.push('\n');
    }
    text
}

/// As a shell reads it. What needs no quotes has none, because `$GITHUB_ENV` and docker's `--env-file` would keep them.
fn quoted(value: &str) -> Zeroizing<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
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
