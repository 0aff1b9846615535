//! `rise-registry configure docker|podman|buildx|kubelet`: makes clients ask
//! `docker-credential-rise`, and undoes that.
//!
//! Only entries of `credHelpers` change. The kubelet's settings belong to root on another machine,
//! so they are printed.

mod edit;
mod kubelet;
mod surroundings;

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::edit::Edit;
use super::Done;
use crate::app::App;
use crate::broker::{Broker, ListedRegistry};
use crate::docker::preferred_logins;
use crate::failure::{Failure, shown};
use crate::{names, terminal};

const MORE: &str = "\
Shows the change first. On a terminal it then asks whether to write it; elsewhere it writes nothing
without --yes. Both exit with 0. Only entries of `credHelpers` change, and the first run keeps a
copy of the file in FILE.before-rise.";

#[derive(Args)]
#[command(after_help = MORE)]
pub(super) struct ConfigureArguments {
    #[arg(value_enum)]
    client: Client,
    /// Host of a registry; repeatable. Default: the hosts of all registries that you may use
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Write the change that is shown, without a question
    #[arg(long, short)]
    yes: bool,
    /// Undo what earlier runs wrote: each host gets back the helper that it had
    #[arg(long, conflicts_with = "host")]
    undo: bool,
    /// For `kubelet`: version of the nodes' Kubernetes, 1.26 or later [default: 1.34]
    #[arg(long, value_name = "VERSION", value_parser = kubelet::minor_version)]
    kubernetes: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Client {
    /// `config.json` of docker, which compose, crane, cosign, oras, helm and podman also read
    Docker,
    /// `auth.json` of podman, buildah and skopeo
    Podman,
    /// A folder for each registry in the settings of buildx
    Buildx,
    /// Print a `CredentialProviderConfig`
    Kubelet,
}

pub(super) fn run(app: &App, arguments: &ConfigureArguments) -> Done {
    let client = arguments.client;
    if client == Client::Kubelet && arguments.undo {
        return Err(Failure::Settings(
            "`configure kubelet` writes no file, so there is nothing to undo".to_owned(),
        ));
    }
    if client != Client::Kubelet && arguments.kubernetes.is_some() {
        return Err(Failure::Settings("--kubernetes is only for `configure kubelet`".to_owned()));
    }
    let hosts = if arguments.undo { Vec::new() } else { hosts(app, arguments)? };
    if client == Client::Kubelet {
        let minor = arguments.kubernetes.unwrap_or(kubelet::LATEST);
        terminal::print(&kubelet::configuration(app, &hosts, minor)?);
        app.terminal.note(&kubelet::what_next(app, minor));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(host) = hosts.iter().find(|host| client == Client::Buildx && names::is_ecr(host)) {
        return Err(Failure::Settings(format!(
            "buildx would not read this for {host}: it looks up logins by repository only where \
             the registry issues tokens of its own, and ECR asks for a password; use \
             `rise-registry configure docker`"
        )));
    }
    let mut edits = Vec::new();
    for path in paths(app, client, &hosts)? {
        let of_this_file = |host: &&String| client != Client::Buildx || edit::is_below(&path, host);
        let edit = if arguments.undo {
            Edit::undo(path)?
        } else {
            let hosts = hosts.iter().filter(of_this_file).flat_map(|host| keys(client, host));
            Edit::set_helper_for(hosts.collect(), path)?
        };
        edits.extend(edit.is_change().then_some(edit));
    }
    if edits.is_empty() {
        app.terminal.note("rise-registry: nothing to change");
        return Ok(ExitCode::SUCCESS);
    }
    for edit in &edits {
        terminal::print(&edit.diff());
    }
    if !is_confirmed(arguments.yes) {
        app.terminal.note("rise-registry: nothing was written: use --yes to write this change");
        return Ok(ExitCode::SUCCESS);
    }
    for edit in edits {
        app.terminal.note(&format!("rise-registry: {}", edit.save()?));
    }
    for host in &hosts {
        super::print_complaints(app, &preferred_logins(&app.environment, host, None));
    }
    if !arguments.undo {
        super::print_complaints(app, &surroundings::complaints(app, &hosts));
    }
    Ok(ExitCode::SUCCESS)
}

fn hosts(app: &App, arguments: &ConfigureArguments) -> Result<Vec<String>, Failure> {
    let is_hub = |host: &str| names::is_key_of(host, "docker.io");
    let is_known = |host: &&String| names::is_host(host) || is_hub(host);
    if let Some(bad) = arguments.host.iter().find(|host| !is_known(host)) {
        return Err(Failure::Settings(format!("--host: {bad:?} is not HOST or HOST:PORT")));
    }
    if !arguments.host.is_empty() {
        let named = arguments.host.iter();
        let named: Vec<_> = named
            .map(|host| if is_hub(host) { "docker.io".to_owned() } else { host.clone() })
            .collect();
        surroundings::check_own_logins(app, &named)?;
        return Ok(named);
    }
    listed_hosts(app)
}

/// The hosts of all registries that the broker issues credentials for. With an entry for another
/// host, docker would no longer read the caller's own login.
fn listed_hosts(app: &App) -> Result<Vec<String>, Failure> {
    let listed = app.ask(Broker::registries)?;
    let (own, ours): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(ListedRegistry::is_for_own_logins);
    for registry in &own {
        app.terminal.note(&format!(
            "rise-registry: {} is left out: you use your own login there",
            shown(&registry.registry_url)
        ));
    }
    if ours.is_empty() && !own.is_empty() {
        return Err(Failure::Settings(
            "the broker issues no credentials for the registries that you may use".to_owned(),
        ));
    }
    let mut hosts: Vec<_> = ours.into_iter().map(|registry| registry.registry_url).collect();
    hosts.sort();
    hosts.dedup();
    if let Some(bad) = hosts.iter().find(|host| !names::is_host(host)) {
        return Err(Failure::Untrusted(format!(
            "the broker lists a registry at {}, which is not a host: check RISE_URL",
            shown(bad)
        )));
    }
    if hosts.is_empty() {
        return Err(Failure::Denied(
            "no rule allows you to use a registry: ask the broker's operator, or name a host with \
             --host"
                .to_owned(),
        ));
    }
    Ok(hosts)
}

/// The keys of a host in the client's file. Podman reads docker's file too, and knows Docker Hub by
/// its name.
fn keys(client: Client, host: &str) -> Vec<String> {
    let docker = names::docker_key(host);
    if matches!(client, Client::Docker | Client::Buildx) && docker != host {
        return vec![host.to_owned(), docker.to_owned()];
    }
    vec![host.to_owned()]
}

/// The client's files.
fn paths(app: &App, client: Client, hosts: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let environment = &app.environment;
    let docker = || match environment.path("DOCKER_CONFIG") {
        Some(directory) => Ok(directory),
        None => environment.home().map(|home| home.join(".docker")),
    };
    Ok(match client {
        Client::Docker => vec![docker()?.join("config.json")],
        Client::Podman => vec![match environment.path("REGISTRY_AUTH_FILE") {
            Some(path) => path,
            None => environment
                .configuration_directory()
                .and_then(|folder| Some(folder.parent()?.join("containers/auth.json")))
                .ok_or_else(|| Failure::Files("HOME is not set to a folder: set it".to_owned()))?,
        }],
        Client::Buildx => {
            let own = environment.path("BUILDX_CONFIG");
            let folder = own
                .map_or_else(|| docker().map(|folder| folder.join("buildx")), Ok)?
                .join("config");
            if hosts.is_empty() {
                edit::files_below(&folder)
            } else {
                // Buildx looks for the host that it connects to.
                let own = |host: &String| folder.join(names::api_host(host)).join("config.json");
                hosts.iter().map(own).collect()
            }
        }
        Client::Kubelet => Vec::new(),
    })
}

/// Without a person to ask, the run only shows the change.
fn is_confirmed(yes: bool) -> bool {
    if yes || !io::stdin().is_terminal() {
        return yes;
    }
    terminal::print("Write this change? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
