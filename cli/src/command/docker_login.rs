//! `rise-registry docker-login`: what docker and podman read, and nothing else: one entry of `config.json`, and of
//! `REGISTRY_AUTH_FILE` where that is set, because podman then looks nowhere else.

use std::process::ExitCode;

use clap::Args;

use super::credentials::WantedArguments;
use super::{Done, mask};
use crate::app::App;
use crate::credentials;
use crate::docker::ConfigFile;
use crate::failure::Failure;

#[derive(Args)]
pub(super) struct DockerLoginArguments {
    #[command(flatten)]
    wanted: WantedArguments,
    /// Tell GitHub Actions by `::add-mask::` on stderr to hide the password in its logs
    #[arg(long)]
    add_mask: bool,
}

pub(super) fn run(app: &App, arguments: &DockerLoginArguments) -> Done {
    let mut docker = ConfigFile::of_docker(&app.environment)?;
    let mut podman =
        app.environment.path("REGISTRY_AUTH_FILE").map(ConfigFile::load).transpose()?;
    let obtained = credentials::obtain(app, &arguments.wanted.wanted(app)?)?;
    super::say(app, &obtained.complaints);
    let credentials = &obtained.kept.credentials;
    if credentials.password.expose().is_empty() {
        return Err(Failure::Settings(format!(
            "registry {} hands out no credential: log in to {} with a login of your own",
            credentials.registry, credentials.registry_url
        )));
    }
    if arguments.add_mask {
        mask(credentials);
    }
    docker.check_that_it_is_read(&credentials.registry_url)?;
    // Docker knows hosts only. Podman and its kin take the longest path that fits, so other projects keep their login.
    docker.add(&credentials.registry_url, credentials);
    docker.save()?;
    if let Some(podman) = &mut podman {
        podman.add(&credentials.image, credentials);
        podman.save()?;
    }
    let end = credentials.expires_at.as_ref().map_or(String::new(), |at| format!(" until {at}"));
    app.terminal.note(&format!("logged in for {}{end}", credentials.image));
    Ok(ExitCode::SUCCESS)
}
