//! Runs a program that prints a token: bounded in time and in what it prints.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use zeroize::Zeroizing;

use super::LONGEST;
use crate::deadline::Deadline;
use crate::failure::shown;
use rise_secret::Secret;

/// How long a program that has ended may keep its stderr open by a program that it started.
const LEFTOVER: Duration = Duration::from_secs(1);

pub(super) enum ProgramError {
    NotStarted(io::Error),
    TooSlow,
    /// How the program ended, and what it printed on stderr.
    Failed(ExitStatus, Zeroizing<String>),
    /// The program succeeded and printed nothing. In `a | b`, the shell reports the failure of `b`
    /// only, so stderr may contain the reason.
    Empty(Zeroizing<String>),
}

/// Returns what the program printed on stdout, without white space around it.
pub(super) fn run(command: &mut Command, deadline: Deadline) -> Result<Secret, ProgramError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ProgramError::NotStarted)?;
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let text = stdout.map(|stdout| stdout.recv_timeout(deadline.remaining()));
    let Some(Ok(text)) = text else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(ProgramError::TooSlow);
    };
    let status = child.wait().map_err(ProgramError::NotStarted)?;
    let succeeded = status.success();
    if let (Ok(text), true) = (&text, succeeded)
        && !text.trim().is_empty()
    {
        return Ok(Secret::new(text.trim().to_owned()));
    }
    let limit = deadline.at_most(LEFTOVER).remaining();
    let words = stderr.and_then(|stderr| stderr.recv_timeout(limit).ok()?.ok());
    let words = words.unwrap_or_default();
    Err(if succeeded { ProgramError::Empty(words) } else { ProgramError::Failed(status, words) })
}

/// The last line of what a program printed on stderr, as ` (…)`. A line with the secret is left
/// out.
pub(super) fn words(stderr: &str, secret: Option<&Secret>) -> String {
    let line = last_line(stderr);
    if line.is_empty() || secret.is_some_and(|secret| secret.is_in(line)) {
        return String::new();
    }
    format!(" ({})", shown(line))
}

pub(super) fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// Reads a bounded text in a thread of its own, because the program may never end.
fn read_all(stream: impl Read + Send + 'static) -> Receiver<io::Result<Zeroizing<String>>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = stream.take(LONGEST + 1).read_to_end(&mut bytes);
        let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let _ = send.send(read.map(|_| text));
    });
    receive
}
