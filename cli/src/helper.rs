//! `docker-credential-rise`: docker's protocol for credential helpers, and the kubelet's.
//!
//! Docker, podman, skopeo and buildah start it with one word as argument and the registry on stdin.
//! They compare [`NOT_FOUND`] and [`NO_SERVER`] literally, and read failures on stdout as one line.

mod get;
mod kubelet;

use std::io::{self, Read as _};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::app::App;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::Flags;
use crate::{names, terminal};

/// With this answer, clients go on without credentials.
pub(crate) const NOT_FOUND: &str = "credentials not found in native keychain";
pub(crate) const NO_SERVER: &str = "no credentials server URL";

/// What `docker login` sends with `store`. `docker logout` sends the URL alone with `erase`.
#[derive(Deserialize)]
struct StoreForm {
    #[serde(rename = "ServerURL")]
    server_url: String,
}

/// The longest wait for a broker that cannot answer now, if nothing else is configured. A person or
/// a build waits for docker meanwhile.
const WAIT: Duration = Duration::from_secs(30);
/// The kubelet ends its plugin after a minute.
const KUBELET_WAIT: Duration = Duration::from_secs(40);
/// Bytes. More than any URL, and more than a kubelet's request with its token.
const LONGEST: u64 = 64 * 1024;

const USAGE: &str = "\
usage: docker-credential-rise get|store|erase|list|version   started by docker, podman, skopeo
       docker-credential-rise kubelet                         started by the kubelet
`rise-registry configure` adds it to their settings; docs/client.md explains it.";

pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let action = arguments.next().filter(|_| arguments.next().is_none()).unwrap_or_default();
    match action.to_str().unwrap_or_default() {
        "get" => get(),
        "store" | "erase" => ignore(),
        // Old docker builds request a credential for each entry of the list, used or not, so it is
        // always empty.
        "list" => input().map_or_else(|failure| failed(&failure), |_| succeeded("{}")),
        "version" | "--version" => {
            succeeded(concat!("docker-credential-rise ", env!("CARGO_PKG_VERSION")))
        }
        "help" | "--help" | "-h" => succeeded(USAGE),
        "kubelet" => match kubelet() {
            Ok(response) => succeeded(&response),
            // The kubelet logs stderr and parses stdout as JSON.
            Err(failure) => {
                terminal::error_line(&format!("docker-credential-rise: {}", failure.line()));
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
    let answer = input().map_err(get::NoAnswer::Failure).and_then(|server| {
        let answer = get::get(app(WAIT), &Environment::from_process(), server.trim())?;
        for complaint in &answer.complaints {
            terminal::error_line(&format!("docker-credential-rise: {complaint}"));
        }
        Ok(answer.json)
    });
    match answer {
        Ok(json) => succeeded(&json),
        Err(get::NoAnswer::Literal(text)) => {
            terminal::line(text);
            ExitCode::FAILURE
        }
        // The reason is for a person who expected a login. The client goes on without one.
        Err(get::NoAnswer::Unknown(failure)) => {
            terminal::error_line(&format!("docker-credential-rise: {}", failure.line()));
            terminal::line(NOT_FOUND);
            ExitCode::FAILURE
        }
        Err(get::NoAnswer::Failure(failure)) => failed(&failure),
    }
}

/// `docker login` and `docker logout` have no effect, because credentials come from the broker.
/// That is an error unless `ignore_store` is set.
fn ignore() -> ExitCode {
    let ignored = input().and_then(|input| Ok((input, app(WAIT)?))).and_then(|(input, app)| {
        if app.settings.ignore_store {
            return Ok(());
        }
        let form: Option<StoreForm> = serde_json::from_str(&input).ok();
        let server = form.as_ref().map_or(input.trim(), |form| form.server_url.as_str());
        let host = names::host(server).unwrap_or("this registry");
        Err(Failure::Settings(if get::is_known_as_the_brokers(&app, host) {
            format!(
                "nothing was changed: the broker issues the credentials for {host}, so `docker \
                 login` is not needed; set RISE_IGNORE_STORE=true to ignore this"
            )
        } else {
            format!(
                "nothing was changed: docker-credential-rise stores no logins, and nothing shows \
                 that {host} is a registry of the broker; if it is another one, remove its entry \
                 in `credHelpers`, or name another program in `credsStore`"
            )
        }))
    });
    ignored.map_or_else(|failure| failed(&failure), |()| ExitCode::SUCCESS)
}

fn kubelet() -> Result<Zeroizing<String>, Failure> {
    let request = input()?;
    kubelet::answer(&app(KUBELET_WAIT)?, &request)
}

fn app(wait: Duration) -> Result<App, Failure> {
    App::new(&Flags::default(), Environment::from_process(), wait)
}

fn input() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes);
    let text =
        std::str::from_utf8(&bytes).ok().filter(|_| read.is_ok() && bytes.len() as u64 <= LONGEST);
    text.map(|text| Zeroizing::new(text.to_owned())).ok_or_else(|| {
        Failure::Other(format!("stdin must contain UTF-8 text of at most {LONGEST} bytes"))
    })
}

fn succeeded(text: &str) -> ExitCode {
    terminal::line(text);
    ExitCode::SUCCESS
}

fn failed(failure: &Failure) -> ExitCode {
    terminal::line(&format!("docker-credential-rise: {}", failure.line()));
    ExitCode::FAILURE
}
