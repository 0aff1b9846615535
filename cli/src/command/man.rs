//! `rise-registry man [DIR]`: manual pages, made of the text of `--help`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;

use super::Done;
use crate::failure::Failure;
use crate::terminal;

#[derive(Args)]
pub(super) struct ManArguments {
    /// Write a page for each command into this folder
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &ManArguments) -> Done {
    let mut command = super::Arguments::command();
    command.build();
    let failed =
        |what: &dyn std::fmt::Display| Failure::Files(format!("cannot write the manual: {what}"));
    let Some(directory) = &arguments.directory else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(|error| failed(&error))?;
        terminal::print(&String::from_utf8_lossy(&page));
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    clap_mangen::generate_to(command, directory).map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}
