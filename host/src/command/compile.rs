//! `rise-broker compile`, a hidden command: the broker starts itself with it to compile a component
//! in a process of its own.

use std::process::ExitCode;

use super::fail;
use crate::provider::compile;

#[derive(clap::Args)]
pub struct CompileArguments {
    #[arg(long)]
    cpu_seconds: u64,
    #[arg(long)]
    address_space: u64,
}

/// Comes before everything else: it reads no settings and no secrets, and no thread may start
/// before the process has limited itself.
pub fn run(arguments: &CompileArguments) -> ExitCode {
    compile::main(arguments.cpu_seconds, arguments.address_space)
        .map_or_else(|error| fail(&[error]), |()| ExitCode::SUCCESS)
}
