//! `rise-broker`: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    rise_broker::command::run(rise_broker::command::Arguments::parse())
}
