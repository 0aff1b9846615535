//! `rise-registry login`: a person agrees in a browser, anywhere, and this machine has tokens from then on.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::deadline::{Deadline, WHOLE};
use crate::failure::{Failure, shown};
use crate::oidc::{DeviceAnswer, DeviceCode, IssuedTokens, Issuer};
use crate::terminal;
use crate::token::{StoredLogin, TokenSource};

/// Whatever the issuer says: nobody takes longer.
const LONGEST: u64 = 1_800;
/// Seconds between two questions where the issuer does not say, and what `slow_down` adds (RFC 8628).
const INTERVAL: u64 = 5;

const MORE: &str = "\
The issuer and the client stand in ~/.config/rise/registry.toml: login = { issuer = \"https://…\", client_id = \"…\" }. The broker
takes ID tokens whose audience is its own, so the client is called as the broker's `auth.audience`.";

#[derive(Args)]
#[command(after_help = MORE)]
pub(super) struct LoginArguments {}

pub(super) fn run(app: &App, _: &LoginArguments) -> Done {
    let broker = app.broker()?;
    let login = app.settings.login.clone().ok_or_else(|| {
        Failure::Settings(
            "whom to ask for a login is not said: put `login = { issuer = \"https://…\", client_id = \"…\" }` into ~/.config/rise/registry.toml".to_owned(),
        )
    })?;
    let issuer = Issuer::discover(&login, &app.settings, &app.environment, app.deadline)?;
    let device = issuer.device(app.deadline)?;
    let where_to = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
    // Not a note: without it nothing happens.
    terminal::error_line(&format!(
        "open {} and agree to {}",
        shown(where_to),
        shown(&device.user_code)
    ));
    let tokens = wait(&issuer, &device)?;
    let stored = StoredLogin::new(login, tokens, &app.settings, &app.environment)?;
    stored.save()?;
    let source = TokenSource::Login(Box::new(stored));
    let deadline = Deadline::after(WHOLE);
    let token = source.token(&app.settings, &app.environment, deadline)?;
    let who = broker.explain(&token, None, deadline)?;
    app.terminal.note(&format!(
        "rise-registry: logged in at {} as {} of issuer {}",
        broker.url(),
        shown(&who.sub),
        shown(&who.issuer)
    ));
    Ok(ExitCode::SUCCESS)
}

fn wait(issuer: &Issuer<'_>, device: &DeviceCode) -> Result<IssuedTokens, Failure> {
    let over = Deadline::after(Duration::from_secs(device.expires_in.min(LONGEST)));
    let mut interval = device.interval.unwrap_or(INTERVAL).clamp(1, LONGEST);
    while !over.is_over() {
        thread::sleep(Duration::from_secs(interval).min(over.remaining()));
        match issuer.ask(device, Deadline::after(WHOLE)) {
            Ok(DeviceAnswer::Agreed(tokens)) => return Ok(tokens),
            Ok(DeviceAnswer::NotYet) => {}
            Ok(DeviceAnswer::SlowDown) => interval += INTERVAL,
            // RFC 8628: a connection that fails is tried again, less often.
            Err(Failure::Unavailable(_)) => interval *= 2,
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Token("nobody agreed in time: run `rise-registry login` again".to_owned()))
}
