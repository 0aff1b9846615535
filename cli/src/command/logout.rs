//! `rise-registry logout`: the stored login and all cached credentials are gone, and the issuer is told.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::oidc::Issuer;
use crate::token::StoredLogin;

#[derive(Args)]
pub(super) struct LogoutArguments {}

pub(super) fn run(app: &App, _: &LogoutArguments) -> Done {
    // A damaged login is removed like any other.
    let stored = StoredLogin::load(&app.environment).unwrap_or_default();
    let had = StoredLogin::forget(&app.environment)?;
    let credentials = app.cache().clear();
    if let Some(stored) = stored
        && let Some(refresh_token) = &stored.refresh_token
    {
        let revoked =
            Issuer::discover(&stored.login, &app.settings, &app.environment, app.deadline)
                .and_then(|issuer| issuer.revoke(refresh_token, app.deadline));
        if let Err(failure) = revoked {
            app.terminal.note(&format!(
                "rise-registry: the login is gone here, but its issuer does not know: {}",
                failure.line()
            ));
        }
    }
    let login = if had { "the login is removed" } else { "there was no login" };
    app.terminal
        .note(&format!("rise-registry: {login}; cached credentials removed: {credentials}"));
    Ok(ExitCode::SUCCESS)
}
