//! `rise-registry logout`: removes the stored login, all cached credentials and what `docker-login`
//! wrote, gives back what can be given back, and revokes the refresh token at the issuer.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::cache::Kept;
use crate::docker::{self, ConfigFile, LoginRecords, RecordedLogin};
use crate::failure::Failure;
use crate::give_back::{Returnable, give_all_back};
use crate::oidc::Issuer;
use crate::token::{RemovedLogin, StoredLogin};

/// For all credentials that are given back.
const GIVING_BACK: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct LogoutArguments {}

pub(super) fn run(app: &App, _: &LogoutArguments) -> Done {
    let records = LoginRecords::of(&app.environment);
    let recorded = records.as_ref().map(LoginRecords::all).unwrap_or_default();
    let cached: Vec<_> = app.cache().all().into_iter().map(|cached| cached.kept).collect();
    let (logins, unreadable) = log_out_of_clients(app, &cached, &recorded);
    let mut held: Vec<_> = cached.iter().filter_map(Returnable::of_kept).collect();
    for credential in recorded.into_iter().filter_map(|login| login.credential) {
        if !held.contains(&credential) {
            held.push(credential);
        }
    }
    let credentials = app.cache().clear();
    give_all_back(app, &held, app.patience.once_within(GIVING_BACK));
    if let Some(records) = records.filter(|_| unreadable.is_none()) {
        records.remove();
    }
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

/// Removes what `docker-login` wrote, as far as its records and the cache know it. Returns the
/// number of logins, and the failure for a file that cannot be read or written.
fn log_out_of_clients(
    app: &App,
    cached: &[Kept],
    recorded: &[RecordedLogin],
) -> (usize, Option<Failure>) {
    let mut digests: Vec<_> = recorded.iter().map(|login| login.digest.clone()).collect();
    digests.extend(cached.iter().map(|kept| docker::digest_of(&kept.credentials)));
    let (mut removed, mut unreadable) = (0, None);
    let mut log_out = |file: Result<ConfigFile, Failure>| match file
        .and_then(|mut file| file.log_out(&digests))
    {
        Ok(logins) => removed += logins,
        Err(failure) => unreadable = Some(failure),
    };
    // Each is read after the one before was written, because two may be the same.
    log_out(ConfigFile::of_docker(&app.environment));
    let podman = app.environment.path("REGISTRY_AUTH_FILE");
    let files: BTreeSet<_> =
        recorded.iter().map(|login| login.file.clone()).chain(podman).collect();
    for file in files {
        log_out(ConfigFile::load(file));
    }
    (removed, unreadable)
}
