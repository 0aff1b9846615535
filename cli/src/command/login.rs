//! `rise-registry login`: a person confirms a code in a browser, on any machine, and this machine
//! stores the login.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::deadline::{ATTEMPT, Deadline};
use crate::failure::{Failure, shown};
use crate::oidc::{DeviceAnswer, DeviceCode, IssuedTokens, Issuer};
use crate::patience::Setback;
use crate::terminal;
use crate::token::{StoredLogin, TokenSource};

/// Seconds. The longest wait for a person, even if the issuer allows more.
const LONGEST: u64 = 1_800;
/// Seconds between two requests if the issuer does not state them, and the seconds that `slow_down`
/// adds (RFC 8628).
const INTERVAL: u64 = 5;

const MORE: &str = "\
The issuer and the client are configured in ~/.config/rise/registry.toml:
login = { issuer = \"https://…\", client_id = \"…\" }. The broker accepts ID tokens whose audience is
its own, so the client's id must equal the broker's `auth.audience`.";

#[derive(Args)]
#[command(after_help = MORE)]
pub(super) struct LoginArguments {}

pub(super) fn run(app: &App, _: &LoginArguments) -> Done {
    let broker = app.broker()?;
    let login = app.settings.login.clone().ok_or_else(|| {
        Failure::Settings(
            "no issuer is configured for logins: add `login = { issuer = \"https://…\", client_id \
             = \"…\" }` to ~/.config/rise/registry.toml"
                .to_owned(),
        )
    })?;
    let what = "asking the issuer";
    let issuer = app.patience.repeat(what, |deadline| {
        Issuer::discover(&login, &app.settings, &app.environment, deadline)
    })?;
    let device = app.patience.repeat(what, |deadline| issuer.device(deadline))?;
    let url = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
    // Printed despite `--quiet`: without it nobody can confirm the code.
    terminal::error_line(&format!(
        "open {} and confirm the code {}",
        shown(url),
        shown(&device.user_code)
    ));
    let tokens = wait_for_tokens(&issuer, &device)?;
    let stored = StoredLogin::new(login.clone(), tokens, &app.settings, &app.environment)?;
    // The person took time that counts for nobody else.
    stored.save(app.patience.restarted().deadline())?;
    let source = TokenSource::Login(Box::new(stored));
    let who = app.ask_as(source, app.patience.restarted(), |broker, token, deadline| {
        broker.explain(token, None, deadline)
    })?;
    app.terminal.note(&format!(
        "rise-registry: logged in at {} as {} of issuer {}",
        broker.url(),
        shown(&who.sub),
        shown(&who.issuer)
    ));
    Ok(ExitCode::SUCCESS)
}

fn wait_for_tokens(issuer: &Issuer<'_>, device: &DeviceCode) -> Result<IssuedTokens, Failure> {
    let over = Deadline::after(Duration::from_secs(device.expires_in.min(LONGEST)));
    let mut interval = device.interval.unwrap_or(INTERVAL).clamp(1, LONGEST);
    while !over.is_over() {
        thread::sleep(Duration::from_secs(interval).min(over.remaining()));
        match issuer.request_tokens(device, Deadline::after(ATTEMPT)) {
            Ok(DeviceAnswer::Confirmed(tokens)) => return Ok(tokens),
            Ok(DeviceAnswer::Pending) => {}
            Ok(DeviceAnswer::SlowDown) => interval += INTERVAL,
            // RFC 8628: after a failed connection, the client asks less often.
            Err(Setback { failure: Failure::Unavailable(_), .. }) => interval *= 2,
            Err(setback) => return Err(setback.into()),
        }
    }
    Err(Failure::Token(
        "the code was not confirmed in time: run `rise-registry login` again".to_owned(),
    ))
}
