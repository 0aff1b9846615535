//! The command: started with the folder in its environment, given the signals that are meant for it, waited for.

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
    /// With the exit code that shells have for it.
    Failed(u8, String),
}

/// From here on these signals do not end us.
pub(super) fn listen(events: Sender<ChildEvent>) -> Result<(), Failure> {
    let known = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];
    let mut signals = SignalsInfo::<WithOrigin>::new(known)
        .map_err(|error| Failure::Files(format!("signals cannot be listened to: {error}")))?;
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

/// What a terminal sends (Ctrl-C, Ctrl-\, hanging up) goes to all in the foreground, the command among them. Twice is not
/// the same as once: a second Ctrl-C makes docker drop what it holds.
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
        return Started::Failed(127, "no command is named".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(folder.variables());
    // Docker would take this one's logins instead of the folder's.
    command.env_remove("DOCKER_AUTH_CONFIG");
    if let Some(first) = logins.first() {
        command.env("REGISTRY_HOST", &first.kept.credentials.registry_url);
        command.env("REGISTRY_IMAGE", &first.kept.credentials.image);
    }
    match command.spawn() {
        Ok(child) => {
            tell_its_end(&child, events);
            Started::Running(child)
        }
        Err(error) => {
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            let program = shown(&program.to_string_lossy());
            Started::Failed(code, format!("{program} cannot be started: {error}"))
        }
    }
}

/// Leaves it waitable, so that its number is nobody else's while signals are on their way.
fn tell_its_end(child: &Child, events: Sender<ChildEvent>) {
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
    // One that has ended already gets no signal, and that is no error.
    let _ = rustix::process::kill_process(Pid::from_child(child), signal);
}
