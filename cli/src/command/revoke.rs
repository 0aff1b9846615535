//! `rise-registry revoke`: gives credentials back, and ends those of others for an operator.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::Done;
use crate::app::App;
use crate::broker::{RevocationRequest, Revocations};
use crate::cache::Cache;
use crate::failure::{Failure, shown};
use crate::give_back::{self, Returnable, give_back, give_back_or_tell};
use crate::terminal;

/// How often an operator's command looks what is left.
const LOOK: Duration = Duration::from_secs(1);
/// Credentials that one run gives back.
const MOST: usize = 100;

const MORE: &str = "\
A credential that several jobs share ends when the last of them has given it back. Some registries
cannot end a credential: the broker says so, and until when it works.

--subject, --of-project, --of-registry, --provider and --of-request are for operators of the broker
(`[[operators]]` with `revoke`): they end the credentials of others, those that all of them select.
The command waits until they have ended, at most for --wait, and exits 5 if some have not; the
broker goes on without it.";

#[derive(Args)]
#[command(after_help = MORE)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct RevokeArguments {
    /// The `request_id` of an answer with a credential
    #[arg(value_name = "REQUEST_ID")]
    ids: Vec<String>,
    /// Give back every credential that this user keeps, and forget it
    #[arg(long, conflicts_with = "ids")]
    cached: bool,
    #[command(flatten)]
    selection: SelectionArguments,
    /// Say that they are gone already: deleted at the registry by hand, or of a registry that is
    /// not there any more; for operators, with --of-request or --of-registry
    #[arg(long)]
    gone: bool,
    /// Only list what an operator would end
    #[arg(long)]
    dry_run: bool,
    /// Print the broker's answers as JSON, one on a line
    #[arg(long)]
    json: bool,
}

/// What an operator ends.
#[derive(Args)]
#[group(id = "selection", multiple = true, conflicts_with_all = ["ids", "cached"])]
struct SelectionArguments {
    /// End what this subject got: the issuer's name in the broker's settings, and the `sub`
    #[arg(long, value_name = "ISSUER:SUB")]
    subject: Option<String>,
    /// End the credentials of this project
    #[arg(long, value_name = "PROJECT")]
    of_project: Option<String>,
    /// End the credentials of this registry
    #[arg(long, value_name = "REGISTRY")]
    of_registry: Option<String>,
    /// End the credentials of all registries of this type, such as harbor
    #[arg(long, value_name = "TYPE")]
    provider: Option<String>,
    /// End the credential that this request got, or that was minted for it
    #[arg(long, value_name = "REQUEST_ID")]
    of_request: Option<String>,
}

pub(super) fn run(app: &App, arguments: &RevokeArguments) -> Done {
    if let Some(request) = arguments.selection.request() {
        let RevokeArguments { gone, dry_run, .. } = *arguments;
        let request = RevocationRequest { gone, dry_run, ..request };
        return end_selected(app, &request, arguments.json);
    }
    if arguments.dry_run || arguments.gone {
        let what = "--dry-run and --gone are about what an operator selects: name it, for example \
                    by --of-request";
        return Err(Failure::Settings(what.to_owned()));
    }
    if arguments.cached {
        return Ok(end_cached(app, arguments.json));
    }
    if arguments.ids.is_empty() {
        let what = "nothing to revoke: name the request id of a credential, or give back what is \
                    kept here by --cached";
        return Err(Failure::Settings(what.to_owned()));
    }
    end_named(app, &arguments.ids, arguments.json)
}

/// Goes on after a failure, and fails with the last one.
fn end_named(app: &App, ids: &[String], json: bool) -> Done {
    if ids.len() > MOST {
        return Err(Failure::Settings(format!("more than {MOST} request ids: use several runs")));
    }
    let is_id =
        |id: &&String| id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(wrong) = ids.iter().find(|id| !is_id(id)) {
        return Err(Failure::Settings(format!(
            "`{}` is no request id: expected 26 letters and digits, as in `request_id` of \
             `credentials`",
            shown(wrong)
        )));
    }
    let mut failed = None;
    for id in ids {
        match give_back(app, app.source()?, id, app.patience) {
            Ok(ended) if json => {
                terminal::line(&serde_json::to_string(&ended).unwrap_or_default());
            }
            Ok(ended) => terminal::line(&give_back::line(&ended)),
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    told(&earlier);
                }
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn told(failure: &Failure) {
    terminal::error_line(&format!("rise-registry: {}", failure.line()));
}

/// Gives back what this user keeps. A credential stays in the cache until it is given back or the
/// broker says that it cannot be, so that the command can be repeated.
fn end_cached(app: &App, json: bool) -> ExitCode {
    let cache = app.cache();
    let (mut forgotten, mut returnable, mut given) = (0, 0, 0);
    for cached in cache.all() {
        let credential = Returnable::of_kept(&cached.kept);
        let credential = credential.filter(|credential| !credential.has_expired((app.now)()));
        let ended = credential.map(|credential| give_back_or_tell(app, &credential, app.patience));
        returnable += usize::from(ended.is_some());
        if let Some(Ok(ended)) = &ended {
            given += 1;
            if json {
                terminal::line(&serde_json::to_string(ended).unwrap_or_default());
            }
        }
        let is_done = matches!(ended, None | Some(Ok(_) | Err(Failure::Denied(_))));
        forgotten += usize::from(is_done && Cache::remove_cached(&cached));
    }
    if !json {
        terminal::line(&format!(
            "credentials forgotten: {forgotten}; given back: {given} of {returnable}"
        ));
    }
    if given == returnable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl SelectionArguments {
    /// `None` if nothing is selected.
    fn request(&self) -> Option<RevocationRequest<'_>> {
        let Self { subject, of_project, of_registry, provider, of_request } = self;
        let all = [subject, of_project, of_registry, provider, of_request];
        let [subject, project, registry, provider, request_id] = all.map(Option::as_deref);
        let is_given = all.into_iter().any(Option::is_some);
        let none = RevocationRequest::default();
        let selected =
            RevocationRequest { project, registry, provider, subject, request_id, ..none };
        is_given.then_some(selected)
    }
}

/// An operator ends credentials, and waits for it.
fn end_selected(app: &App, request: &RevocationRequest<'_>, json: bool) -> Done {
    let ask = |request: &RevocationRequest<'_>| {
        app.ask(|broker, token, deadline| broker.end_credentials(token, request, deadline))
    };
    let answer = ask(request)?;
    if json {
        terminal::line(&serde_json::to_string(&answer).unwrap_or_default());
    } else {
        for line in lines(&answer) {
            terminal::line(&line);
        }
    }
    let look = RevocationRequest { gone: false, dry_run: true, ..request.clone() };
    let mut left = if request.dry_run || request.gone { 0 } else { answer.matched };
    while left > 0 && app.patience.deadline().remaining() > LOOK {
        thread::sleep(LOOK);
        left = ask(&look)?.matched;
    }
    if left > 0 {
        return Err(Failure::Unavailable(format!(
            "{left} credentials have not ended yet: the broker goes on until they have; look again \
             with --dry-run"
        )));
    }
    if !request.dry_run && !json {
        let word = if request.gone { "gone" } else { "ended" };
        terminal::line(&format!("{word}: {}", answer.matched));
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer, for people.
fn lines(answer: &Revocations) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for credential in &answer.credentials {
        let ending = if credential.ending { ", ending" } else { "" };
        lines.push(shown(&format!(
            "{}  {}  {}  {}  {}:{}  until {}{ending}",
            credential.minted_by,
            credential.registry,
            credential.project,
            credential.actions.join(","),
            credential.issuer,
            credential.sub,
            credential.expires_at,
        )));
    }
    let listed = u64::try_from(answer.credentials.len()).unwrap_or(u64::MAX);
    if answer.matched > listed {
        lines.push(format!("and {} more", answer.matched - listed));
    }
    if answer.matched == 0 {
        lines.push("no credential that the broker can end is selected".to_owned());
    }
    for unsupported in &answer.unsupported {
        let until = unsupported.until.as_deref();
        let until = until.map_or("without an end".to_owned(), |at| format!("until {}", shown(at)));
        lines.push(format!(
            "{} of {} cannot be ended and work {until}",
            unsupported.credentials,
            shown(&unsupported.registry)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{CredentialState, EndedCredential};

    #[test]
    fn what_a_broker_says_cannot_write_elsewhere() {
        let ended = EndedCredential {
            credential: "01M7XW52RJVA23PFBZSRPG9G5D".to_owned(),
            state: CredentialState::Shared,
            expires_at: Some("\u{1b}[2J".to_owned()),
            request_id: String::new(),
        };
        let line = give_back::line(&ended);
        assert!(!line.contains('\u{1b}') && line.starts_with("01M7XW52RJVA23PFBZSRPG9G5D is"));
    }
}
