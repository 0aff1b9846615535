//! `rise-registry explain`: what the broker's rules let us do. Why a rule says no is the operator's to see.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::broker::Grant;
use crate::failure::{Failure, shown};
use crate::terminal;

#[derive(Args)]
pub(super) struct ExplainArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Of the project, if one is named, else of all.
pub(super) fn run(app: &App, arguments: &ExplainArguments) -> Done {
    let broker = app.broker()?;
    let token = app.source()?.token(&app.settings, &app.environment, app.deadline)?;
    let project = app.settings.project.as_ref().map(|it| it.value.as_str());
    let who = broker.explain(&token, project, app.deadline)?;
    if arguments.json {
        terminal::line(&serde_json::to_string(&who).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    if who.grants.is_empty() {
        let what =
            project.map_or_else(|| "anything".to_owned(), |it| format!("anything with {it}"));
        return Err(Failure::Denied(format!(
            "no rule lets {} of issuer {} do {what}: ask the broker's operator",
            shown(&who.sub),
            shown(&who.issuer)
        )));
    }
    let width = |of: fn(&Grant) -> usize| who.grants.iter().map(of).max().unwrap_or(0);
    let (projects, registries) = (width(|it| it.projects.len()), width(|it| it.registry.len()));
    for it in &who.grants {
        let (project, registry) = (shown(&it.projects), shown(&it.registry));
        let actions = shown(&it.actions.join(", "));
        terminal::line(&format!("{project:projects$}  {registry:registries$}  {actions}"));
    }
    Ok(ExitCode::SUCCESS)
}
