//! The commands of the binary, one file each; `inspect` is the broker's.
//!
//! To add a command: a file here, a variant of [`Command`] and an arm in [`run`].

mod check;
mod new;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rise_broker::command::provider::inspect;
use rise_broker::command::{compile, run_to_end};

/// Makes, inspects, tries and checks providers for rise-broker.
#[derive(Parser)]
#[command(name = "rise-provider", version = rise_broker::version::ALL, propagate_version = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a project for a new provider: it builds, tests and passes `check` as it is.
    New(new::NewArguments),
    /// Say what a provider's file is, what it asks for, and which settings it has.
    Inspect(inspect::InspectArguments),
    /// Call a provider once, with real settings, and show what would be answered.
    Run(run::RunArguments),
    /// The conformance kit: check that a provider keeps to the contract. Exits 1 if not.
    Check(check::CheckArguments),
    /// Compile a component from standard input. The program starts itself with this command.
    #[command(hide = true)]
    Compile(compile::CompileArguments),
}

pub fn run(arguments: Arguments) -> ExitCode {
    if let Command::Compile(arguments) = &arguments.command {
        return compile::run(arguments);
    }
    run_to_end(async {
        match arguments.command {
            Command::New(arguments) => new::run(&arguments),
            Command::Inspect(arguments) => inspect::run(&arguments).await,
            Command::Run(arguments) => run::run(&arguments).await,
            Command::Check(arguments) => check::run(&arguments).await,
            Command::Compile(_) => Ok(()),
        }
    })
}
