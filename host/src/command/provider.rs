//! `rise-broker provider …`: what operators do with a provider's file. The tools of its author are
//! another program, `rise-provider`.
//!
//! To add a command: a file here, a variant of [`Command`] and an arm in [`run`].

pub mod inspect;
mod lock;

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
    /// Show what each provider asks for, and write it to `providers.lock`: from then on nothing
    /// else is loaded.
    Lock(lock::Arguments),
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Inspect(arguments) => inspect::run(arguments).await,
        Command::Lock(arguments) => lock::run(arguments).await,
    }
}
