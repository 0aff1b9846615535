//! `rise-broker completions SHELL`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::print;

#[derive(clap::Args)]
pub(super) struct CompletionsArguments {
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments) {
    let (mut command, mut text) = (super::Arguments::command(), Vec::new());
    clap_complete::generate(arguments.shell, &mut command, "rise-broker", &mut text);
    print(String::from_utf8_lossy(&text).trim_end());
}
