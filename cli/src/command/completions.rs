//! `rise-registry completions SHELL`.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::terminal;

#[derive(Args)]
pub(super) struct CompletionsArguments {
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments) -> ExitCode {
    let mut text = Vec::new();
    let mut command = super::parser();
    clap_complete::generate(arguments.shell, &mut command, "rise-registry", &mut text);
    terminal::print(&String::from_utf8_lossy(&text));
    ExitCode::SUCCESS
}
