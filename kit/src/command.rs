//! The commands of the binary, one file each; `inspect` is the broker's.
//!
//! To add a command: a file here, a variant of [`Command`] and an arm in [`run`].

mod check;
mod new;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rise_broker::command::provider::inspect;
use rise_broker::command::{compile, exit_code, help, run_to_end};

/// Makes, inspects, tries and checks providers for rise-broker.
#[derive(Parser)]
#[command(
    name = "rise-provider",
    version = rise_broker::version::ALL,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a project for a new provider. It builds, tests and passes `check` as it is.
    New(new::NewArguments),
    /// Show the name, capabilities and settings of a provider's file, as an operator sees them.
    Inspect(inspect::InspectArguments),
    /// Call a provider once with real settings, and show its calls and the credential.
    Run(run::RunArguments),
    /// Check with the conformance kit that a provider keeps to the contract. Exits 1 if not.
    Check(check::CheckArguments),
    /// Compile a component from standard input. The program starts itself with this command.
    #[command(hide = true)]
    Compile(compile::CompileArguments),
    /// Print this help, or the help of a command.
    Help(help::HelpArguments),
}

pub fn run(arguments: Arguments) -> ExitCode {
    // Neither reads a secret. A new project gets the modes of the author's own umask.
    match &arguments.command {
        Command::Compile(arguments) => return compile::run(arguments),
        Command::New(arguments) => return exit_code(new::run(arguments)),
        Command::Help(arguments) => return help::run::<Arguments>(arguments),
        Command::Inspect(_) | Command::Run(_) | Command::Check(_) => {}
    }
    run_to_end(async {
        match arguments.command {
            Command::Inspect(arguments) => inspect::run(&arguments).await,
            Command::Run(arguments) => run::run(&arguments).await,
            Command::Check(arguments) => check::run(&arguments).await,
            Command::New(_) | Command::Compile(_) | Command::Help(_) => Ok(()),
        }
    })
}
