//! Renews credentials in the folder of `exec` at half of their lifetime.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Held, ProjectLogin, SharedFolder};
use crate::app::App;
use crate::credentials;
use crate::failure::Failure;
use crate::terminal;

/// Seconds between two attempts after a failure. The broker limits requests per subject.
const AGAIN: u64 = 15;

/// Starts the thread. It ends after the returned sender is dropped, but nothing waits for it,
/// because it may be in the middle of a request.
pub(super) fn start(
    app: Arc<App>,
    mut logins: Vec<ProjectLogin>,
    shared: (SharedFolder, Held),
) -> Sender<()> {
    let (stop, stopped) = channel();
    thread::spawn(move || {
        let mut failed_at = None;
        loop {
            let now = (app.now)();
            let pause = Duration::from_secs(due(&logins, failed_at).saturating_sub(now));
            if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                return;
            }
            let renewed = renew(&app, &mut logins, &shared);
            match (&renewed, failed_at) {
                // Reported once, so that the command's own output stays readable.
                (Err(failure), None) => terminal::error_line(&format!(
                    "rise-registry: the credentials for the command cannot be renewed: {}",
                    failure.line()
                )),
                (Ok(()), Some(_)) => {
                    app.terminal
                        .note("rise-registry: the credentials for the command are renewed again");
                }
                _ => {}
            }
            failed_at = renewed.is_err().then(|| (app.now)());
        }
    });
    stop
}

/// The time of the next renewal, in seconds since 1970.
fn due(logins: &[ProjectLogin], failed_at: Option<u64>) -> u64 {
    let half = logins.iter().map(|login| login.kept.half_life()).min().unwrap_or(u64::MAX);
    failed_at.map_or(half, |at| half.max(at.saturating_add(AGAIN)))
}

/// Renews the credentials that are due, also after one of them failed, and returns the first
/// failure. The token's source is read again, because a token file may contain a new token by now.
fn renew(
    app: &App,
    logins: &mut [ProjectLogin],
    (folder, held): &(SharedFolder, Held),
) -> Result<(), Failure> {
    let mut renewed = Ok(());
    for login in logins.iter_mut().filter(|login| login.kept.half_life() <= (app.now)()) {
        let asked = app.source().and_then(|source| {
            credentials::ask(app, source, &login.wanted, app.patience.restarted())
        });
        match asked {
            Ok(kept) => {
                // The command may still use the one before, so both are given back at its end.
                super::hold(held, &kept, (app.now)());
                login.kept = kept;
            }
            Err(failure) => renewed = renewed.and(Err(failure)),
        }
    }
    let written = match folder.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(folder) => folder.write(logins.iter().map(|login| &login.kept.credentials)),
        None => Ok(()),
    };
    renewed.and(written)
}
