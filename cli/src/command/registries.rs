//! `rise-registry registries`: the registries that the caller may use.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::broker::{Broker, ListedRegistry};
use crate::terminal;

#[derive(Args)]
pub(super) struct RegistriesArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(app: &App, arguments: &RegistriesArguments) -> Done {
    let registries = app.ask(Broker::registries)?;
    if arguments.json {
        terminal::line(&serde_json::to_string(&registries).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    if registries.is_empty() {
        app.terminal
            .note("rise-registry: no rule allows you to use a registry: ask the broker's operator");
    }
    let width =
        |length: fn(&ListedRegistry) -> usize| registries.iter().map(length).max().unwrap_or(0);
    let names = width(|registry| registry.registry.len());
    let types = width(|registry| registry.r#type.len());
    for listed in &registries {
        let ListedRegistry { registry, r#type, image, .. } = listed;
        let own = if listed.is_for_own_logins() { "  (with your own login)" } else { "" };
        terminal::line(&format!("{registry:names$}  {type:types$}  {image}{own}"));
    }
    Ok(ExitCode::SUCCESS)
}
