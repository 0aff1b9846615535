//! `rise-registry whoami`: the caller's identity as the broker sees it.

use std::process::ExitCode;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::claims::Claims;
use crate::failure::shown;
use crate::terminal;

#[derive(Args)]
pub(super) struct WhoamiArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(app: &App, arguments: &WhoamiArguments) -> Done {
    let broker = app.broker()?;
    let source = app.source()?;
    let name = source.name();
    let who = app.ask_as(source, app.patience, |broker, token, deadline| {
        broker.explain(token, None, deadline)
    })?;
    if arguments.json {
        terminal::line(&serde_json::to_string(&who).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    terminal::line(&format!(
        "{} of issuer {}, by {name}, at {}",
        shown(&who.sub),
        shown(&who.issuer),
        broker.url()
    ));
    let lasting = who.claims.iter().filter(|(claim, _)| !Claims::is_fleeting(claim));
    for (claim, value) in lasting.take(100) {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        terminal::line(&format!("  {} = {}", shown(claim), shown(&text)));
    }
    Ok(ExitCode::SUCCESS)
}
