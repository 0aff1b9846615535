//! `rise-broker revoke`: a user of the broker's machine ends credentials. The running broker does
//! it; this command asks it, as `rise-registry revoke` does over HTTP.

mod leftovers;

use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, sleep};

use super::{Outcome, print, texts};
use crate::capability::printable;
use crate::config::{Draft, environment};
use crate::control::{ControlFolders, ControlReply, ControlTask, ask};
use crate::http::end_credentials::{OutstandingFields, RevocationParameters, RevocationsAnswer};

/// How often the command looks what is left.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST_SHOWN: usize = 512;

const MORE: &str = "\
The running broker ends the credentials that all given options select. Run this as root or as the
broker's user, on its machine; `rise-registry revoke` does the same from elsewhere, with the token
of an operator.

The command waits until they have ended, at most for --wait, and exits 1 if some have not; the
broker goes on without it. Some registries cannot end a credential: the output says so, and until
when it works.";

#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(super) struct RevokeArguments {
    #[command(flatten)]
    directory: super::ConfigDirectory,
    #[command(flatten)]
    selection: SelectionArguments,
    /// Take your word that they are gone, and do not ask their registry: you deleted them there by
    /// hand, or the registry is not there any more. With --of-request or --of-registry.
    #[arg(long)]
    gone: bool,
    /// Only list what would end.
    #[arg(long)]
    dry_run: bool,
    /// Print the broker's answer as JSON.
    #[arg(long)]
    json: bool,
    /// The longest wait for the end of the credentials, such as 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time)]
    wait: Duration,
}

/// What ends.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
struct SelectionArguments {
    /// End what this subject got: the issuer's name in the settings, and the `sub`.
    #[arg(long, value_name = "ISSUER:SUB")]
    subject: Option<String>,
    /// End the credentials of this project.
    #[arg(long, value_name = "PROJECT")]
    of_project: Option<String>,
    /// End the credentials of this registry.
    #[arg(long, value_name = "REGISTRY")]
    of_registry: Option<String>,
    /// End the credentials of all registries of this type, such as harbor.
    #[arg(long, value_name = "TYPE")]
    provider: Option<String>,
    /// End the credential that this request got, or that was minted for it.
    #[arg(long, value_name = "REQUEST_ID")]
    of_request: Option<String>,
    /// End credentials at registries that the broker has no record of and that are too old to be in
    /// use by anybody. Look at them with --dry-run first. With --of-registry: those of that one.
    #[arg(long, conflicts_with_all = ["subject", "of_project", "provider", "of_request", "gone"])]
    leftovers: bool,
}

pub(super) async fn run(arguments: &RevokeArguments) -> Outcome {
    // The broker serves with what it read at start, so problems elsewhere do not matter.
    let config = Draft::load(&arguments.directory.path(), &environment()).map_err(texts)?.config;
    let folders = ControlFolders { state: config.state_directory, audit: config.audit.directory };
    if arguments.selection.leftovers {
        return leftovers::run(arguments, &folders).await;
    }
    let look = RevocationParameters { dry_run: true, ..arguments.selection.parameters() };
    let (gone, dry_run) = (arguments.gone, arguments.dry_run);
    let end = RevocationParameters { gone, dry_run, ..arguments.selection.parameters() };
    let started = Instant::now();
    let answer = revoke(&folders, end).await?;
    show(&answer, arguments.json);
    let mut left = if dry_run || gone { 0 } else { answer.matched };
    while left > 0 && started.elapsed() < arguments.wait {
        sleep(LOOK).await;
        left = revoke(&folders, look.clone()).await?.matched;
    }
    if left > 0 {
        return Err(vec![format!(
            "{left} credentials have not ended yet: the broker goes on until they have; look again \
             with --dry-run"
        )]);
    }
    if !dry_run && !arguments.json {
        let word = if gone { "gone" } else { "ended" };
        print(format_args!("{word}: {}", answer.matched));
    }
    Ok(())
}

async fn revoke(
    folders: &ControlFolders,
    parameters: RevocationParameters,
) -> Result<RevocationsAnswer, Vec<String>> {
    match ask(folders, ControlTask::Revoke(parameters)).await {
        Ok(ControlReply::Revocations(answer)) => Ok(answer),
        Ok(ControlReply::Leftovers(_) | ControlReply::Refused(_)) => Err(other_answer()),
        Err(why) => Err(vec![why]),
    }
}

fn other_answer() -> Vec<String> {
    vec!["the broker answered something else; both must be of one version".to_owned()]
}

impl SelectionArguments {
    fn parameters(&self) -> RevocationParameters {
        RevocationParameters {
            project: self.of_project.clone(),
            registry: self.of_registry.clone(),
            provider: self.provider.clone(),
            subject: self.subject.clone(),
            request_id: self.of_request.clone(),
            gone: false,
            dry_run: false,
        }
    }
}

fn show(answer: &RevocationsAnswer, json: bool) {
    if json {
        print(serde_json::to_string(answer).unwrap_or_default());
        return;
    }
    answer.credentials.iter().for_each(|credential| print(line(credential)));
    if answer.matched > answer.credentials.len() {
        print(format_args!("and {} more", answer.matched - answer.credentials.len()));
    }
    if answer.matched == 0 {
        print("no credential that the broker can end is selected");
    }
    for unsupported in &answer.unsupported {
        let until = unsupported.until.as_ref();
        let until = until.map_or("without an end".to_owned(), |at| format!("until {at}"));
        let (registry, credentials) = (&unsupported.registry, unsupported.credentials);
        print(format_args!("{credentials} of {registry} cannot be ended and work {until}"));
    }
}

/// A credential in one line, for people. The `sub` may be any text.
fn line(credential: &OutstandingFields) -> String {
    let OutstandingFields { minted_by, registry, project, issuer, sub, .. } = credential;
    let actions: Vec<&str> = credential.actions.iter().map(|action| action.as_str()).collect();
    let ending = if credential.ending { ", ending" } else { "" };
    let text = format!(
        "{minted_by}  {registry}  {project}  {}  {issuer}:{sub}  until {}{ending}",
        actions.join(","),
        credential.expires_at
    );
    printable(&text, LONGEST_SHOWN)
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time from 0s to 24h, such as 30s or 5m".to_owned();
    let time: SignedDuration = text.parse().map_err(|_| wrong())?;
    let time = Duration::try_from(time).map_err(|_| wrong())?;
    if time <= Duration::from_hours(24) { Ok(time) } else { Err(wrong()) }
}
