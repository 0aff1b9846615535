//! `rise-registry docker-login`: writes one entry of `config.json` for docker and podman, and one
//! of `REGISTRY_AUTH_FILE` where that is set, because podman then reads no other file.

use std::process::ExitCode;

use clap::Args;

use super::credentials::WantedArguments;
use super::{Done, mask};
use crate::app::App;
use crate::docker::{self, ConfigFile, HELPER, LoginRecords, RecordedLogin};
use crate::{allowed, names};

#[derive(Args)]
pub(super) struct DockerLoginArguments {
    #[command(flatten)]
    wanted: WantedArguments,
    /// Print `::add-mask::` lines on stderr, so that GitHub Actions hides the password in its log
    #[arg(long)]
    add_mask: bool,
}

pub(super) fn run(app: &App, arguments: &DockerLoginArguments) -> Done {
    let mut file = ConfigFile::of_docker(&app.environment)?;
    let mut podman =
        app.environment.path("REGISTRY_AUTH_FILE").map(ConfigFile::load).transpose()?;
    let obtained = allowed::obtain(app, &arguments.wanted.wanted(app)?)?;
    super::print_complaints(app, &obtained.complaints);
    let credentials = &obtained.kept.credentials;
    super::must_have_a_login(credentials)?;
    if arguments.add_mask {
        mask(credentials);
    }
    let (host, image) = (&credentials.registry_url, Some(credentials.image.as_str()));
    let is_asked = file.helper_or_store(host) == Some(HELPER);
    if !is_asked {
        file.check_that_it_is_read(host)?;
    }
    let records = LoginRecords::of(&app.environment);
    let record = |file: &ConfigFile| {
        let login = RecordedLogin::new(file.path(), &obtained.kept);
        if let Some(Err(error)) = records.as_ref().map(|records| records.add(login)) {
            app.terminal.note(&format!(
                "rise-registry: the login is not recorded ({error}), so `logout` may leave it"
            ));
        }
    };
    if let Some(podman) = &mut podman {
        record(podman);
        podman.log_in(&credentials.image, credentials)?;
    }
    if is_asked {
        app.terminal.note(&format!(
            "rise-registry: nothing to do: docker asks docker-credential-rise for {host} already"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    record(&file);
    // Docker looks up logins by host. Podman, buildah and skopeo use the longest matching path, so
    // other projects keep their login.
    if file.log_in(names::docker_key(host), credentials)? {
        app.terminal.note(&format!(
            "rise-registry: docker has one login for {host}, and the earlier one was replaced"
        ));
    }
    super::print_complaints(app, &docker::preferred_logins(&app.environment, host, image));
    let end = credentials.expires_at.as_ref().map_or(String::new(), |at| format!(" until {at}"));
    app.terminal.note(&format!("logged in for {}{end}", credentials.image));
    Ok(ExitCode::SUCCESS)
}
