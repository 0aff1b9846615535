//! `rise-registry help [COMMAND]`: the same as `--help`. Clap's own `help` rejects `help --help`.

use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
pub(super) struct HelpArguments {
    /// Command to explain
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub(super) fn run(arguments: &HelpArguments) -> ExitCode {
    let line = ["rise-registry"].into_iter().chain(arguments.command.as_deref()).chain(["--help"]);
    // Clap treats its help, and an unknown command, as an error that it prints itself.
    match super::parser().try_get_matches_from(line) {
        Ok(_) => ExitCode::SUCCESS,
        Err(help) => help.exit(),
    }
}
