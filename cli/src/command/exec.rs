//! `rise-registry exec -- COMMAND…`: credentials for one command and what it starts, in a private folder that is gone with it.
//!
//! **Invariant:** these credentials stand in that folder and nowhere else: neither in the cache nor in a variable.
//! **Invariant:** whatever ends the command ends the folder. Signals for us go to the command, and we end after it.

mod child;
mod folder;
mod renewal;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;

use self::child::{ChildEvent, Started};
use self::folder::Folder;
use super::Done;
use super::credentials::WantedArguments;
use crate::app::App;
use crate::broker::Wanted;
use crate::cache::Kept;
use crate::failure::Failure;
use crate::{credentials, names, terminal};

const MORE: &str = "\
The command finds DOCKER_CONFIG, BUILDX_CONFIG and REGISTRY_AUTH_FILE set to files of its own, which hold no login but those of
the projects, and REGISTRY_HOST and REGISTRY_IMAGE set to where the first project's image belongs.

Exit codes: those of the command; 128 and the signal's number if a signal ended it; 127 if there is no such command, 126 if it
cannot be started. Before the command is started: those of `rise-registry --help`.";

#[derive(Args)]
#[command(after_help = MORE)]
pub(super) struct ExecArguments {
    #[command(flatten)]
    wanted: WantedArguments,
    /// Further projects: for clients that know logins by repository (podman, buildah, skopeo, buildx)
    #[arg(long, value_name = "PROJECT")]
    also: Vec<String>,
    /// What to run, behind `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// What was asked for, and what came of it last.
struct ProjectLogin {
    wanted: Wanted,
    kept: Kept,
}

/// SharedFolder with the thread that renews. `None`: the folder is gone.
type SharedFolder = Arc<Mutex<Option<Folder>>>;

pub(super) fn run(app: App, arguments: &ExecArguments) -> Done {
    // Until here and while the broker is asked, a signal may simply end us: there is nothing to clean up.
    let logins = log_in(&app, arguments)?;
    let (sender, events) = channel();
    child::listen(sender.clone())?;
    let mut folder = Folder::create(&app.environment, logins.iter().map(|it| &it.kept))?;
    folder.write(logins.iter().map(|it| &it.kept.credentials))?;
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
    let stop = renewal::start(app, logins, Arc::clone(&shared));
    for event in events {
        match event {
            ChildEvent::Signal(signal) => child::forward(&child, signal),
            ChildEvent::Ended => break,
        }
    }
    // Not before this line: the process number is the child's until it is waited for.
    let status = child.wait();
    drop(stop);
    // Whoever writes holds the lock, and finds nothing to write to from now on.
    let folder = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(why) = folder.and_then(|it| it.remove().err()) {
        terminal::error_line(&format!("rise-registry: {why}"));
    }
    status.map(code_of).map_err(|error| Failure::Other(format!("the command was lost: {error}")))
}

fn log_in(app: &App, arguments: &ExecArguments) -> Result<Vec<ProjectLogin>, Failure> {
    let first = arguments.wanted.wanted(app)?;
    let mut all = vec![first.clone()];
    for project in &arguments.also {
        let project = Some(names::project(project, "--also")?);
        if all.iter().all(|it| it.project != project) {
            all.push(Wanted { project, ..first.clone() });
        }
    }
    let _waiting = app.terminal.waiting("asking the broker");
    let log_in = |wanted: Wanted| {
        let kept = credentials::ask(app, app.source()?, &wanted, app.deadline)?;
        let credentials = &kept.credentials;
        if credentials.password.expose().is_empty() {
            return Err(Failure::Settings(format!(
                "registry {} hands out no credential: run the command without `exec`, with a login of your own to {}",
                credentials.registry, credentials.registry_url
            )));
        }
        Ok(ProjectLogin { wanted, kept })
    };
    all.into_iter().map(log_in).collect()
}

/// As shells have it.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|it| it.saturating_add(128)));
    ExitCode::from(code.and_then(|it| u8::try_from(it).ok()).unwrap_or(1))
}
