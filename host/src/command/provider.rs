//! `rise-broker provider …`: what operators and authors do with a provider's file.
//!
//! To add a command: a file here, a variant of [`Command`] and an arm in [`run`].

mod check;
mod inspect;
mod lock;
mod new;
mod run;

use super::Outcome;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say what a provider's file is, what it asks for, and which settings it has.
    Inspect(inspect::Arguments),
    /// The conformance kit: check that a provider keeps to the contract. Exits 1 if not.
    Check(check::Arguments),
    /// Write a project for a new provider: it builds, tests and passes `check` as it is.
    New(new::Arguments),
    /// Call a provider once, with real settings, and show what would be answered.
    Run(run::Arguments),
    /// Show what each provider asks for, and write it to `providers.lock`: from then on nothing else is loaded.
    Lock(lock::Arguments),
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Inspect(arguments) => inspect::run(arguments).await,
        Command::Check(arguments) => check::run(arguments).await,
        Command::New(arguments) => new::run(arguments),
        Command::Run(arguments) => run::run(arguments).await,
        Command::Lock(arguments) => lock::run(arguments).await,
    }
}
