//! `rise-registry man [DIR]`: manual pages. Those of the commands are made of the text of `--help`.

mod reference;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap_mangen::Man;

use super::Done;
use crate::failure::Failure;
use crate::terminal;

#[derive(Args)]
pub(super) struct ManArguments {
    /// Write a page for each command and for docker-credential-rise into this folder
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &ManArguments) -> Done {
    let failed = |what: &dyn std::fmt::Display| match &arguments.directory {
        Some(directory) => Failure::Files(format!(
            "the manual cannot be written to {}: {what}",
            directory.display()
        )),
        None => Failure::Other(format!("the manual cannot be made: {what}")),
    };
    let page = main_page().map_err(|error| failed(&error))?;
    let Some(directory) = &arguments.directory else {
        terminal::print(&page);
        return Ok(ExitCode::SUCCESS);
    };
    write_all(directory, &page).map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

fn write_all(directory: &Path, main_page: &str) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(super::parser(), directory)?;
    fs::write(directory.join("rise-registry.1"), main_page)?;
    fs::write(directory.join("docker-credential-rise.1"), reference::helper_page())
}

fn main_page() -> std::io::Result<String> {
    let mut page = Vec::new();
    Man::new(super::parser()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned() + &reference::sections())
}
