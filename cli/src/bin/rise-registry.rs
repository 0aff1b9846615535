//! `rise-registry`: the command line for callers of the broker.

use std::process::ExitCode;

fn main() -> ExitCode {
    rise_cli::process::harden();
    rise_cli::command::main()
}
