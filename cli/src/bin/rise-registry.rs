//! `rise-registry`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    rise_cli::process::harden();
    rise_cli::command::main()
}
