//! `help [COMMAND]…`: the same as `--help`. Clap's own `help` rejects `help --help`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};

#[derive(Args)]
pub struct HelpArguments {
    /// The command to explain, such as `provider lock`.
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// `Program`: its whole command line.
pub fn run<Program: CommandFactory>(arguments: &HelpArguments) -> ExitCode {
    let program = Program::command();
    let line = [program.get_name().to_owned()].into_iter();
    let line = line.chain(arguments.command.clone()).chain(["--help".to_owned()]);
    // Clap treats its help, and an unknown command, as an error that it prints itself.
    match program.try_get_matches_from(line.collect::<Vec<_>>()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(help) => help.exit(),
    }
}
