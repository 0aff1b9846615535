//! `rise-broker revoke --leftovers`: credentials at registries that the broker has no record of.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LONGEST_SHOWN, RevokeArguments, other_answer};
use crate::capability::printable;
use crate::command::{Outcome, print};
use crate::control::{
    ControlFolders, ControlReply, ControlTask, LeftoverFields, LeftoverParameters, LeftoversAnswer,
    ask,
};

/// How often the registries are asked what is left.
const LOOK: Duration = Duration::from_secs(3);

pub(super) async fn run(arguments: &RevokeArguments, folders: &ControlFolders) -> Outcome {
    let dry_run = arguments.dry_run;
    let registry = arguments.selection.of_registry.clone();
    let parameters = |dry_run| LeftoverParameters { registry: registry.clone(), dry_run };
    let started = Instant::now();
    let answer = find(folders, parameters(dry_run)).await?;
    show(&answer, arguments.json);
    let mut left = if dry_run { 0 } else { answer.matched };
    while left > 0 && started.elapsed() < arguments.wait {
        sleep(LOOK.min(arguments.wait)).await;
        let look = find(folders, parameters(true)).await?;
        left = if look.problems.is_empty() { look.matched } else { left };
    }
    let mut wrong = answer.problems;
    if left > 0 {
        wrong.push(format!(
            "{left} leftovers have not ended: the log of the broker says why; run this again"
        ));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    if !dry_run && !arguments.json {
        print(format_args!("ended: {}", answer.matched));
    }
    Ok(())
}

async fn find(
    folders: &ControlFolders,
    parameters: LeftoverParameters,
) -> Result<LeftoversAnswer, Vec<String>> {
    match ask(folders, ControlTask::Leftovers(parameters)).await {
        Ok(ControlReply::Leftovers(answer)) => Ok(answer),
        Ok(ControlReply::Revocations(_) | ControlReply::Refused(_)) => Err(other_answer()),
        Err(why) => Err(vec![why]),
    }
}

fn show(answer: &LeftoversAnswer, json: bool) {
    if json {
        print(serde_json::to_string(answer).unwrap_or_default());
        return;
    }
    answer.leftovers.iter().for_each(|leftover| print(line(leftover)));
    if answer.matched > answer.leftovers.len() {
        print(format_args!("and {} more", answer.matched - answer.leftovers.len()));
    }
    if answer.matched == 0 {
        print("no leftovers");
    }
}

fn line(leftover: &LeftoverFields) -> String {
    let LeftoverFields { registry, minted_by, made_at, note } = leftover;
    let made_at = made_at.as_deref().unwrap_or("an unknown time");
    printable(&format!("{minted_by}  {registry}  made {made_at}  {note}"), LONGEST_SHOWN)
}
