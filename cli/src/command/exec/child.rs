//! The command of `exec`: its environment, its signals and its end.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::exfiltrator::origin::Origin;
use signal_hook::low_level::siginfo::{Cause, Sent};

use super::ProjectLogin;
use super::folder::Folder;
use crate::failure::{Failure, shown};

pub(super) enum ChildEvent {
    Signal(Signal),
    Ended,
}

pub(super) enum Started {
    Running(Child),
    /// Exit code as in a shell, and the reason.
    Failed(u8, String),
}

/// Sends the signals to `events`. From then on they no longer end this process.
pub(super) fn listen(events: Sender<ChildEvent>) -> Result<(), Failure> {
    let known = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    let mut signals = SignalsInfo::<WithOrigin>::new(known)
        .map_err(|error| Failure::Files(format!("cannot listen for signals: {error}")))?;
    thread::spawn(move || {
        for origin in signals.forever() {
            let Some(signal) = meant_for_the_command(&origin) else { continue };
            if events.send(ChildEvent::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// A terminal sends its signals (Ctrl-C, Ctrl-\, hang-up) to all foreground processes, including
/// the command. Passing them on would deliver them twice, and a second Ctrl-C makes docker abort at
/// once.
fn meant_for_the_command(origin: &Origin) -> Option<Signal> {
    if !matches!(origin.cause, Cause::Sent(Sent::User | Sent::TKill | Sent::Queue) | Cause::Unknown)
    {
        return None;
    }
    Signal::from_named_raw(origin.signal)
}

pub(super) fn start(
    words: &[OsString],
    folder: &Folder,
    logins: &[ProjectLogin],
    events: Sender<ChildEvent>,
) -> Started {
    let Some((program, arguments)) = words.split_first() else {
        return Started::Failed(127, "no command is given".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(folder.variables());
    // Docker would prefer the logins in this variable to those in the folder.
    command.env_remove("DOCKER_AUTH_CONFIG");
    if let Some(first) = logins.first() {
        command.env("REGISTRY_HOST", &first.kept.credentials.registry_url);
        command.env("REGISTRY_IMAGE", &first.kept.credentials.image);
    }
    match command.spawn() {
        Ok(child) => {
            watch_for_the_end(&child, events);
            Started::Running(child)
        }
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            let program = shown(&program.to_string_lossy());
            Started::Failed(code, format!("{program} cannot be started: {error}"))
        }
    }
}

/// Reports the end of the child without reaping it, so that no other process gets its number while
/// signals are passed on.
fn watch_for_the_end(child: &Child, events: Sender<ChildEvent>) {
    let pid = Pid::from_child(child);
    thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(
            rustix::process::waitid(WaitId::Pid(pid), options),
            Err(rustix::io::Errno::INTR)
        ) {}
        let _ = events.send(ChildEvent::Ended);
    });
}

pub(super) fn forward(child: &Child, signal: Signal) {
    // The child may have ended already, which is not an error.
    let _ = rustix::process::kill_process(Pid::from_child(child), signal);
}
