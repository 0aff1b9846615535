//! `token_command`: any program that prints a token, run by `sh -c`.
//!
//! **Invariant:** only the caller's own settings and environment name it, never a checkout.

use std::process::Command;

use super::program::{self, ProgramError};
use crate::failure::Failure;
use crate::patience::Patience;
use crate::settings::{Settings, Stated};
use rise_secret::Secret;

pub(crate) struct TokenCommand {
    command: Stated<String>,
}

impl TokenCommand {
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        Some(Self { command: settings.token_command.clone()? })
    }

    pub(super) fn name(&self) -> String {
        format!("the token command ({})", self.command.origin)
    }

    /// The command identifies the caller, because asking it for a token may be slow.
    pub(super) fn identity(&self, audience: &str) -> String {
        format!("command {audience} {}", self.command.value)
    }

    pub(super) fn token(&self, settings: &Settings, patience: Patience) -> Result<Secret, Failure> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &self.command.value]).env("RISE_AUDIENCE", &settings.audience.value);
        let ran = patience.repeat("running the token command", |_| {
            Ok(program::run(&mut shell, patience.deadline()))
        })?;
        let failed = |what: &str| {
            let origin = &self.command.origin;
            Failure::Token(format!("{origin}: the token command {what}"))
        };
        let by_hand = |what: &str, stderr: &str| {
            failed(&format!("{what}{}: run it by hand", program::words(stderr, None)))
        };
        ran.map_err(|error| match error {
            ProgramError::NotStarted(error) => failed(&format!("cannot be started: {error}")),
            ProgramError::TooSlow => failed("did not end in time: run it by hand"),
            ProgramError::Failed(status, stderr) => {
                let code = status.code().map(|code| format!(" with code {code}"));
                by_hand(&format!("fails{}", code.unwrap_or_default()), &stderr)
            }
            ProgramError::Empty(stderr) => by_hand("prints nothing", &stderr),
        })
    }
}
