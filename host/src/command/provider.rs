//! `rise-broker provider …`: what operators do with a provider's file. The tools of its author are
//! another program, `rise-provider`.
//!
//! To add a command: a file here, a variant of [`ProviderCommand`] and an arm in [`run`].

pub mod inspect;
mod lock;

use super::Outcome;

#[derive(clap::Args)]
pub(super) struct ProviderArguments {
    #[command(subcommand)]
    command: ProviderCommand,
}

#[derive(clap::Subcommand)]
enum ProviderCommand {
    /// Say what a provider's file is, what it asks for, and which settings it has.
    Inspect(inspect::InspectArguments),
    /// Show what each provider may do, and write it to `providers.lock`. A provider in the lock may
    /// import only what the lock lists. With `require = "locked"` the broker loads nothing else;
    /// with the default, `any`, it also loads files that are not in the lock.
    Lock(lock::LockArguments),
}

pub(super) async fn run(arguments: &ProviderArguments) -> Outcome {
    match &arguments.command {
        ProviderCommand::Inspect(arguments) => inspect::run(arguments).await,
        ProviderCommand::Lock(arguments) => lock::run(arguments).await,
    }
}
