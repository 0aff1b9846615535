//! `rise-registry logout`: removes the stored login, all cached credentials and what `docker-login`
//! wrote, gives back what can be given back, and revokes the refresh token at the issuer.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::docker::ConfigFile;
use crate::failure::Failure;
use crate::give_back::{Returnable, give_all_back};
use crate::oidc::Issuer;
use crate::token::{RemovedLogin, StoredLogin};

/// For all credentials that are given back.
const GIVING_BACK: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct LogoutArguments {}

pub(super) fn run(app: &App, _: &LogoutArguments) -> Done {
    let (logins, unreadable) = log_out_of_clients(app);
    let cached = app.cache().all();
    let kept: Vec<_> =
        cached.iter().filter_map(|cached| Returnable::of_kept(&cached.kept)).collect();
    let credentials = app.cache().clear();
    give_all_back(app, &kept, app.patience.once_within(GIVING_BACK));
    let removed = StoredLogin::remove(&app.environment, app.patience.restarted().deadline())?;
    if let RemovedLogin::Login(stored) = &removed
        && let Some(refresh_token) = &stored.refresh_token
    {
        let deadline = app.patience.restarted().once().deadline();
        let revoked = Issuer::discover(&stored.login, &app.settings, &app.environment, deadline)
            .map_err(Failure::from)
            .and_then(|issuer| issuer.revoke(refresh_token, deadline));
        if let Err(failure) = revoked {
            app.terminal.note(&format!(
                "rise-registry: the login was removed here, but its issuer has not revoked it: {}",
                failure.line()
            ));
        }
    }
    let login = match removed {
        RemovedLogin::Nobody => "nobody was logged in by `login`",
        RemovedLogin::Damaged | RemovedLogin::Login(_) => "the login was removed",
    };
    app.terminal
        .note(&format!("rise-registry: {login}; cached credentials removed: {credentials}"));
    if logins > 0 {
        app.terminal.note(&format!(
            "rise-registry: logins that `docker-login` wrote into clients' files, removed: {logins}"
        ));
    }
    unreadable.map_or(Ok(ExitCode::SUCCESS), |failure| {
        Err(failure.with("; a login that `docker-login` wrote may be left there: remove it"))
    })
}

/// Removes what `docker-login` wrote, as far as the cache knows it. Returns the number of logins,
/// and the failure for a file that cannot be read or written.
fn log_out_of_clients(app: &App) -> (usize, Option<Failure>) {
    let cached: Vec<_> =
        app.cache().all().into_iter().map(|cached| cached.kept.credentials).collect();
    let podman = app.environment.path("REGISTRY_AUTH_FILE").map(ConfigFile::load);
    let files = [Some(ConfigFile::of_docker(&app.environment)), podman];
    let (mut removed, mut unreadable) = (0, None);
    for file in files.into_iter().flatten() {
        match file.and_then(|mut file| file.log_out(&cached)) {
            Ok(logins) => removed += logins,
            Err(failure) => unreadable = Some(failure),
        }
    }
    (removed, unreadable)
}
