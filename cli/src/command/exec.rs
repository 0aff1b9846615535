//! `rise-registry exec -- COMMAND…`: credentials for one command and its children, in a private
//! folder that is removed when the command ends.
//!
//! **Invariant:** these credentials are in that folder only, not in the cache and not in a
//! variable.
//! **Invariant:** what can be given back is given back when the command has ended, and when it is
//! never started.
//! **Invariant:** the folder is removed however the command ends. Signals to this process are
//! passed on to the command, and this process ends after it.

mod child;
mod folder;
mod renewal;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use self::child::{ChildEvent, Started};
use self::folder::Folder;
use super::Done;
use super::credentials::WantedArguments;
use crate::app::App;
use crate::broker::Wanted;
use crate::cache::Kept;
use crate::docker::ConfigFile;
use crate::failure::Failure;
use crate::give_back::Returnable;
use crate::{allowed, credentials, give_back, names, terminal};

/// For all credentials that are given back. The caller waits for the exit code.
const GIVING_BACK: Duration = Duration::from_secs(5);

const MORE: &str = "\
For the command, DOCKER_CONFIG, BUILDX_CONFIG and REGISTRY_AUTH_FILE name private files that contain
only the logins of the projects. REGISTRY_HOST and REGISTRY_IMAGE are the registry and the image of
the first project.

The exit code is that of the command; 128 plus the signal's number if a signal ended it; 127 if the
command does not exist; 126 if it cannot be started. If it is not started because there are no
credentials, the codes of `rise-registry --help` apply.";

#[derive(Args)]
#[command(after_help = MORE)]
pub(super) struct ExecArguments {
    #[command(flatten)]
    wanted: WantedArguments,
    /// Further project, for podman, buildah and skopeo, and for buildx where the registry issues
    /// tokens of its own (ECR does not)
    #[arg(long, value_name = "PROJECT")]
    also: Vec<String>,
    /// Command to run and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// A project's request and the last credential for it.
struct ProjectLogin {
    wanted: Wanted,
    kept: Kept,
}

/// The credentials that the command may still use and that can be given back.
type Held = Arc<Mutex<Vec<Returnable>>>;

/// The folder, shared with the thread that renews credentials. `None` once it is removed.
type SharedFolder = Arc<Mutex<Option<Folder>>>;

pub(super) fn run(app: App, arguments: &ExecArguments) -> Done {
    let (app, held) = (Arc::new(app), Held::default());
    let ran = run_command(&app, arguments, &held);
    // The command has ended or was never started, so that nobody uses them any more.
    let held = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
    let patience = app.patience.restarted().once_within(GIVING_BACK);
    give_back::give_all_back(&app, &held, patience);
    ran
}

fn run_command(app: &Arc<App>, arguments: &ExecArguments, held: &Held) -> Done {
    // Until the folder exists, a signal may end this process: no file is left of it.
    let logins = log_in(app, arguments, held)?;
    let (sender, events) = channel();
    child::listen(sender.clone())?;
    if let Err(failure) = ConfigFile::of_docker(&app.environment) {
        let what = "the command runs without its settings";
        app.terminal.note(&format!("rise-registry: {}; {what}", failure.line()));
    }
    let mut folder = Folder::create(&app.environment, logins.iter().map(|login| &login.kept))?;
    folder.write(logins.iter().map(|login| &login.kept.credentials))?;
    let started = child::start(&arguments.command, &folder, &logins, sender);
    let mut child = match started {
        Started::Running(child) => child,
        Started::Failed(code, why) => {
            drop(folder);
            terminal::error_line(&format!("rise-registry: {why}"));
            return Ok(ExitCode::from(code));
        }
    };
    let shared: SharedFolder = Arc::new(Mutex::new(Some(folder)));
    let stop = renewal::start(Arc::clone(app), logins, (Arc::clone(&shared), Arc::clone(held)));
    for event in events {
        match event {
            ChildEvent::Signal(signal) => child::forward(&child, signal),
            ChildEvent::Ended => break,
        }
    }
    // The child must not be reaped earlier: until then no other process can get its number, and
    // signals reach nobody else.
    let status = child.wait();
    drop(stop);
    // The renewing thread holds the lock while it writes. From now on it finds no folder.
    let folder = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(why) = folder.and_then(|folder| folder.remove().err()) {
        terminal::error_line(&format!("rise-registry: {why}"));
    }
    status
        .map(code_of)
        .map_err(|error| Failure::Other(format!("cannot wait for the command: {error}")))
}

/// Notes a credential that the command gets, and drops those that have expired.
fn hold(held: &Held, kept: &Kept, now: u64) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    held.retain(|earlier| !earlier.has_expired(now));
    held.extend(Returnable::of_kept(kept));
}

fn log_in(app: &App, arguments: &ExecArguments, held: &Held) -> Result<Vec<ProjectLogin>, Failure> {
    let first = arguments.wanted.wanted(app)?;
    let mut all = vec![first.clone()];
    for project in &arguments.also {
        let project = Some(names::project(project, "--also")?);
        if all.iter().all(|other| other.project != project) {
            all.push(Wanted { project, ..first.clone() });
        }
    }
    let log_in = |wanted: Wanted| {
        let kept = credentials::ask(app, app.source()?, &wanted, app.patience)
            .map_err(|failure| allowed::explained(app, &wanted, failure))?;
        hold(held, &kept, (app.now)());
        let credentials = &kept.credentials;
        if credentials.password.expose().is_empty() {
            return Err(Failure::Settings(format!(
                "the broker issues no credential for registry {}: run the command without `exec`, \
                 with your own login to {}",
                credentials.registry, credentials.registry_url
            )));
        }
        Ok(ProjectLogin { wanted, kept })
    };
    all.into_iter().map(log_in).collect()
}

/// The exit code that a shell reports.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
