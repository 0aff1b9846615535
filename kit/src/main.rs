//! `rise-provider`: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    rise_provider_kit::command::run(rise_provider_kit::command::Arguments::parse())
}
