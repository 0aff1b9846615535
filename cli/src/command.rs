//! The commands of `rise-registry`, one file each.
//!
//! To add one: a file with its `Arguments` and `run`, a variant of [`Command`], an arm in `run`.

mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::Flags;
use crate::terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  2  change the command line or the settings
  3  no token, or the broker refuses it
  4  the broker says no
  5  the broker is not there or overloaded: try again
  6  not trusted: an unknown certificate, or an answer that no broker gives
  7  files of this machine stand in the way
  1  anything else";

/// Short-lived container-registry credentials for one project, from a rise-broker.
#[derive(Parser)]
#[command(
    name = "rise-registry",
    version,
    propagate_version = true,
    after_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Command {
    /// Say who the broker takes you for.
    Whoami(whoami::Arguments),
}

/// What a command did: its exit code, if it ended well.
type Done = Result<ExitCode, Failure>;

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            terminal::error_line(&format!("rise-registry: {}", failure.line()));
            failure.into()
        }
    }
}

fn run(arguments: &Arguments) -> Done {
    let app = App::new(&arguments.flags, Environment::from_process())?;
    match &arguments.command {
        Command::Whoami(arguments) => whoami::run(&app, arguments),
    }
}
