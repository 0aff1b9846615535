//! `rise-registry registries`: where one may go.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::terminal;

#[derive(Args)]
pub(super) struct RegistriesArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(app: &App, arguments: &RegistriesArguments) -> Done {
    let broker = app.broker()?;
    let token = app.source()?.token(&app.settings, &app.environment, app.deadline)?;
    let registries = broker.registries(&token, app.deadline)?;
    if arguments.json {
        terminal::line(&serde_json::to_string(&registries).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    if registries.is_empty() {
        app.terminal
            .note("rise-registry: no rule lets you use a registry: ask the broker's operator");
    }
    let width = |length: fn(&crate::broker::Registry) -> usize| {
        registries.iter().map(length).max().unwrap_or(0)
    };
    let (names, types) = (width(|it| it.registry.len()), width(|it| it.r#type.len()));
    for it in &registries {
        terminal::line(&format!("{:names$}  {:types$}  {}", it.registry, it.r#type, it.image));
    }
    Ok(ExitCode::SUCCESS)
}
