//! `docker-credential-rise`: docker's protocol for credential helpers, and the kubelet's.
//!
//! Docker, podman, skopeo and buildah start it with one word and the registry on stdin. What they compare word for word
//! stands in [`NOT_FOUND`] and [`NO_SERVER`]; a failure is one line on stdout, because that is where they read it.

mod get;
mod kubelet;

use std::io::{self, Read as _};
use std::process::ExitCode;

use zeroize::Zeroizing;

use crate::app::App;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::Flags;
use crate::terminal;

/// Clients go on without credentials.
pub(crate) const NOT_FOUND: &str = "credentials not found in native keychain";
pub(crate) const NO_SERVER: &str = "no credentials server URL";

/// More than any server's URL, and than a kubelet's request with its token.
const LONGEST: u64 = 64 * 1024;

const USAGE: &str = "\
usage: docker-credential-rise get|store|erase|list|version   as docker and its kin start it
       docker-credential-rise kubelet                         as the kubelet starts it
`rise-registry configure` puts it into their settings; docs/client.md says the rest.";

pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let action = arguments.next().filter(|_| arguments.next().is_none()).unwrap_or_default();
    match action.to_str().unwrap_or_default() {
        "get" => get(),
        "store" => keep("stored"),
        "erase" => keep("erased"),
        // Old docker builds get everything that is listed, which would make credentials that nobody needs.
        "list" => input().map_or_else(|failure| failed(&failure), |_| said("{}")),
        "version" | "--version" => {
            said(concat!("docker-credential-rise ", env!("CARGO_PKG_VERSION")))
        }
        "help" | "--help" | "-h" => said(USAGE),
        "kubelet" => match kubelet() {
            Ok(response) => said(&response),
            // The kubelet logs stderr, and reads stdout as JSON.
            Err(failure) => {
                terminal::error_line(&failure.line());
                ExitCode::FAILURE
            }
        },
        _ => {
            terminal::error_line(USAGE);
            ExitCode::FAILURE
        }
    }
}

fn get() -> ExitCode {
    let answer = input().map_err(get::Refusal::Failure).and_then(|server| {
        let app = app()?;
        let answer = get::get(&app, server.trim())?;
        for complaint in &answer.complaints {
            terminal::error_line(&format!("docker-credential-rise: {complaint}"));
        }
        Ok(answer.json)
    });
    match answer {
        Ok(json) => said(&json),
        Err(get::Refusal::Said(text)) => {
            terminal::line(text);
            ExitCode::FAILURE
        }
        Err(get::Refusal::Failure(failure)) => failed(&failure),
    }
}

/// `docker login` and `docker logout` for a registry whose credentials come from the broker: nothing to do, which is an error
/// unless `ignore_store` says that it is expected.
fn keep(what: &str) -> ExitCode {
    let ignored = input().and_then(|_| app()).and_then(|app| {
        if app.settings.ignore_store {
            return Ok(());
        }
        Err(Failure::Settings(format!(
            "nothing is {what}: credentials for this registry come from the broker, without `docker login`; set RISE_IGNORE_STORE=true if this is to pass"
        )))
    });
    ignored.map_or_else(|failure| failed(&failure), |()| ExitCode::SUCCESS)
}

fn kubelet() -> Result<Zeroizing<String>, Failure> {
    let request = input()?;
    kubelet::answer(&app()?, &request)
}

fn app() -> Result<App, Failure> {
    App::new(&Flags::default(), Environment::from_process())
}

fn input() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes);
    let text =
        std::str::from_utf8(&bytes).ok().filter(|_| read.is_ok() && bytes.len() as u64 <= LONGEST);
    text.map(|text| Zeroizing::new(text.to_owned())).ok_or_else(|| {
        Failure::Other(format!("what stands on stdin is no text of at most {LONGEST} bytes"))
    })
}

fn said(text: &str) -> ExitCode {
    terminal::line(text);
    ExitCode::SUCCESS
}

fn failed(failure: &Failure) -> ExitCode {
    terminal::line(&format!("docker-credential-rise: {}", failure.line()));
    ExitCode::FAILURE
}
