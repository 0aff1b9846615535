//! `rise-registry explain`: the actions that the broker's rules allow. Only the operator can see
//! why a rule does not match.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::broker::Grant;
use crate::failure::{Failure, shown};
use crate::terminal;

const MORE: &str = "\
Covers the project of --project, RISE_PROJECT or a settings file, and all projects if none of them
names one. The exit code is 4 if no rule allows anything.";

#[derive(Args)]
#[command(after_help = MORE)]
pub(super) struct ExplainArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(app: &App, arguments: &ExplainArguments) -> Done {
    let project = app.settings.project.as_ref().map(|project| project.value.as_str());
    let who = app.ask(|broker, token, deadline| broker.explain(token, project, deadline))?;
    if arguments.json {
        terminal::line(&serde_json::to_string(&who).unwrap_or_default());
    }
    if who.grants.is_empty() {
        let what =
            project.map_or_else(|| "any project".to_owned(), |name| format!("project {name}"));
        return Err(Failure::Denied(format!(
            "no rule allows {} of issuer {} to use {what}: ask the broker's operator",
            shown(&who.sub),
            shown(&who.issuer)
        )));
    }
    if arguments.json {
        return Ok(ExitCode::SUCCESS);
    }
    let width = |of: fn(&Grant) -> usize| who.grants.iter().map(of).max().unwrap_or(0);
    let projects = width(|grant| grant.projects.len());
    let registries = width(|grant| grant.registry.len());
    for grant in &who.grants {
        let (project, registry) = (shown(&grant.projects), shown(&grant.registry));
        let actions = shown(&grant.actions.join(", "));
        terminal::line(&format!("{project:projects$}  {registry:registries$}  {actions}"));
    }
    Ok(ExitCode::SUCCESS)
}
