//! `rise-provider run`: calls a provider once with the real capabilities, and shows the result.
//!
//! There is no caller, so no rule of an operator applies and nothing is recorded. The author brings
//! the settings, and with them every secret that the provider can use.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::contract::log::Level;
use crate::grant::grant;
use crate::probe::{Line, Probe, Seen};
use crate::settings::Settings;
use rise_broker::capability::Capabilities;
use rise_broker::command::{Outcome, print, texts, warn};
use rise_broker::config::{ProvidersConfig, environment};
use rise_broker::domain::{
    Action, Actions, Clock, Credential, Credentials, Deadline, Lifetime, Project, RegistryName,
};
use rise_broker::issue::{Leftover, mint};
use rise_broker::provider::compile::Compiler;
use rise_broker::provider::{RevokeCall, Trial};
use rise_broker::registries::{BuiltRegistries, Clients, Means, Registries, Registry, Sdk};
use rise_broker::rules::Grant;
use rise_broker::signing::Signing;
use rise_broker::state;

#[derive(clap::Args)]
pub(super) struct RunArguments {
    /// The component, such as `dist/my-registry.wasm`.
    file: PathBuf,
    /// A file with the content of `[registries.NAME]`, or that content itself as TOML: for example
    /// `registry_url = "localhost:5000"`. Text with a `=` is TOML.
    #[arg(long, value_name = "FILE|TOML")]
    settings: String,
    /// The registry to use, if the settings have several `[registries.NAME]`.
    #[arg(long)]
    registry: Option<RegistryName>,
    /// The project to issue credentials for, such as `my-app`.
    #[arg(long)]
    project: Project,
    /// The actions to grant [default: pull,push].
    #[arg(long, value_name = "pull,push")]
    actions: Option<String>,
    /// The lifetime to grant, in seconds: 60 to 43200, at most the registry's `max_lifetime`
    /// [default: 3600].
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
    /// Print the issued secret. Without this option only its length is printed.
    #[arg(long)]
    show_secret: bool,
    /// End the credential at once, for a provider with `revocation`: calls its `revoke`.
    #[arg(long)]
    revoke: bool,
}

pub(super) async fn run(arguments: &RunArguments) -> Outcome {
    let environment = environment();
    let cache = state::user_cache(&environment).map_err(|error| vec![error])?;
    let clock = Clock::system();
    // The name is needed to read the settings, and the settings have the limits.
    let named =
        Trial::load(&arguments.file, &ProvidersConfig::roomy(), &cache, Compiler::ThisProgram)
            .await;
    let name = named.map_err(|error| vec![error])?.provider.manifest.name.clone();
    let settings = Settings::load(&arguments.settings, &name, &environment).map_err(texts)?.config;
    let trial =
        Trial::load(&arguments.file, &settings.providers, &cache, Compiler::ThisProgram).await;
    let trial = trial.map_err(|error| vec![error])?;
    let clients = Clients::new(Arc::new(Sdk::default()));
    let signing = Signing::throwaway(clock.now()).map(Arc::new);
    let means = Means { clients: &clients, signing: signing.as_ref() };
    let built = Registries::build(settings.registries, &trial.catalog, means).await;
    let BuiltRegistries { registries, warnings } = built.map_err(texts)?;
    for warning in warnings {
        warn(format_args!("warning: {warning}"));
    }
    let registry = pick(&registries, arguments.registry.as_ref())?;
    let actions = arguments.actions.as_deref().map(|text| Actions::parse(text.split(',')));
    let actions = actions.transpose().map_err(|error| vec![format!("--actions: {error}")])?;
    let lifetime = arguments.lifetime.map(Lifetime::try_from).transpose();
    let lifetime = lifetime.map_err(|error| vec![format!("--lifetime: {error}")])?;
    let grant = grant(&registry, &arguments.project, actions, lifetime);
    let grant = grant.map_err(|error| vec![error])?;
    let probe = Arc::new(Probe::default());
    let registry = watched(&registry, &probe);
    if arguments.revoke && !registry.revokes() {
        return Err(vec!["--revoke: the provider exports no `revocation`".to_owned()]);
    }
    let started = Instant::now();
    let deadline = Deadline::after(LIMIT);
    let issued = mint(&registry, &grant, deadline, &clock).await;
    let elapsed = started.elapsed();
    print_calls(&probe.seen(), started, &registry);
    print(format_args!("loaded in {:?}, called in {elapsed:?}", trial.load_time));
    let (issued, leftover) = match issued {
        Ok(credentials) => {
            print(format_args!("{:#}", answer(&credentials, arguments.show_secret)));
            let leftover = match credentials.note {
                Some(note) => Leftover::Noted(note),
                None => Leftover::Nothing,
            };
            (Ok(()), leftover)
        }
        Err(failed) => (Err(vec![failed.to_string()]), failed.leftover),
    };
    if arguments.revoke {
        let ended = end(&registry, &grant, leftover).await;
        return match (issued, ended) {
            (Err(issue), Err(revoke)) => Err([issue, revoke].concat()),
            (issued, ended) => issued.and(ended),
        };
    }
    tell(&leftover);
    issued
}

/// How long a call may take at most.
const LIMIT: Duration = Duration::from_mins(1);

/// Says what stays at the registry.
fn tell(leftover: &Leftover) {
    const END: &str = "no broker ends it; delete it by hand, or use --revoke the next time";
    match leftover {
        Leftover::Nothing => {}
        Leftover::Unknown => {
            warn(format_args!("note: the registry may have made a credential all the same: {END}"));
        }
        Leftover::Noted(note) => {
            warn(format_args!("note: the credential stays at the registry, as `{note}`: {END}"));
        }
    }
}

/// Ends what `issue` may have made, as a broker would.
async fn end(registry: &Registry, grant: &Arc<Grant>, leftover: Leftover) -> Outcome {
    let note = match leftover {
        Leftover::Nothing => {
            warn("note: `issue` remembered nothing, so a broker would not call `revoke`");
            return Ok(());
        }
        Leftover::Unknown => None,
        Leftover::Noted(note) => Some(note),
    };
    let probe = Arc::new(Probe::default());
    let registry = watched(registry, &probe);
    let given = note.as_ref().map_or("without a note".to_owned(), |note| format!("with `{note}`"));
    let settings = Arc::clone(&registry.settings);
    let call = RevokeCall { settings, grant: Arc::clone(grant).into(), note };
    let started = Instant::now();
    let called =
        registry.provider.call_until(call, &registry.capabilities, Deadline::after(LIMIT)).await;
    print_calls(&probe.seen(), started, &registry);
    let failed = |error: String| vec![format!("revoke {given}: {error}; {STAYS}")];
    let returned = called.map_err(|error| failed(error.to_string()))?;
    returned.value.map_err(|error| failed(format!("{error:?}")))?;
    print(format_args!("revoked {given} in {:?}", started.elapsed()));
    Ok(())
}

const STAYS: &str = "the credential may still be at the registry: delete it by hand";

fn pick(
    registries: &Registries,
    name: Option<&RegistryName>,
) -> Result<Arc<Registry>, Vec<String>> {
    let mut asked =
        registries.iter().filter(|registry| name.is_none_or(|name| *name == registry.name));
    match (asked.next(), asked.next()) {
        (Some(registry), None) => Ok(Arc::clone(registry)),
        (Some(_), Some(_)) => {
            Err(vec!["the settings have several registries: name one with --registry".to_owned()])
        }
        (None, _) => Err(vec!["the settings have no such registry".to_owned()]),
    }
}

fn watched(registry: &Registry, probe: &Arc<Probe>) -> Registry {
    let observer = Arc::<Probe>::clone(probe);
    let capabilities = Capabilities { observer, ..Capabilities::clone(&registry.capabilities) };
    Registry { capabilities: Arc::new(capabilities), ..Registry::clone(registry) }
}

/// Prints the calls of the provider to its host, its log lines, and what it used.
fn print_calls(seen: &Seen, started: Instant, registry: &Registry) {
    for asked in &seen.asked {
        let after = asked.at.saturating_duration_since(started);
        print(format_args!("{after:>12.1?}  {}", asked.import));
    }
    for Line { level, text, withheld } in &seen.lines {
        let text = if *withheld { "(withheld: holds a secret)" } else { text };
        print(format_args!("{:>12}  {text}", name(*level)));
    }
    if !seen.printed.is_empty() && !registry.capabilities.reveals_secret(&seen.printed) {
        print(format_args!("{:>12}  {} (no broker logs this)", "stdout", seen.printed));
    }
    let mut used = String::new();
    let _ = write!(used, "used {} KiB of memory", seen.memory >> 10);
    let _ = write!(used, " and {} ms of CPU time at most", seen.cpu_ticks.saturating_mul(10));
    print(used);
}

pub(super) fn name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

fn answer(credentials: &Credentials, show_secret: bool) -> Value {
    let secret = |text: &str| {
        if show_secret { text.to_owned() } else { format!("({} characters)", text.chars().count()) }
    };
    let username = match &credentials.credential {
        Credential::Basic { username, .. } => username.as_str(),
        Credential::ClientAuth | Credential::Bearer(_) | Credential::Refresh(_) => "",
    };
    json!({
        "kind": credentials.credential.kind(),
        "registry_url": credentials.location.host.to_string(),
        "repository": credentials.location.repository,
        "username": username,
        "password": credentials.credential.secret().map(|text| secret(text.expose())),
        "expires_at": credentials.expires_at.map(|time| time.to_string()),
        "ended_by": credentials.ended_by,
        "actions": credentials.actions.iter().map(Action::as_str).collect::<Vec<_>>(),
        "scope": credentials.scope.to_string(),
        "enforced_by": credentials.enforced_by,
    })
}
