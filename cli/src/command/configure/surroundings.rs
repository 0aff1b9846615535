//! What a configured client needs besides its own file, and hosts that must not be configured.

use std::time::Duration;

use crate::app::App;
use crate::broker::ListedRegistry;
use crate::failure::Failure;
use crate::settings::Origin;
use crate::token::TokenSource;
use crate::{names, registries};

/// The longest request of a run whose hosts are named. Its answer only prevents a mistake.
const LOOK_UP: Duration = Duration::from_secs(3);

/// Fails for a registry that callers use with their own logins: an entry would hide them. Without
/// an answer of the broker, every host counts as good, because images are built without a broker.
pub(super) fn check_own_logins(app: &App, hosts: &[String]) -> Result<(), Failure> {
    if app.settings.url.is_none() {
        return Ok(());
    }
    let listed = registries::cached(app)
        .map_or_else(|| registries::request(app, app.patience.once_within(LOOK_UP)), Ok);
    for host in hosts {
        let mut at_this_host = listed
            .iter()
            .flatten()
            .filter(|registry| names::is_same_registry(&registry.registry_url, host))
            .peekable();
        if at_this_host.peek().is_some() && at_this_host.all(ListedRegistry::is_for_own_logins) {
            return Err(Failure::Settings(format!(
                "--host: the broker issues no credentials for {host}, and an entry would hide your \
                 own login there: leave it out, and log in with your own login"
            )));
        }
    }
    Ok(())
}

/// Why a client that is started elsewhere, by a service or an editor, would get no login.
pub(super) fn complaints(app: &App, hosts: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    if !app.environment.has_helper_on_path() {
        lines.push(
            "docker-credential-rise is not in a folder of PATH, where clients look for it: install \
             it there"
                .to_owned(),
        );
    }
    let missing = only_here(app, hosts);
    if !missing.is_empty() {
        lines.push(format!(
            "a client that is started elsewhere does not have the settings of this environment \
             ({}): write them into ~/.config/rise/registry.toml",
            missing.join(", ")
        ));
    }
    lines
}

/// Settings that exist only in this environment or on this command line, or not at all.
fn only_here(app: &App, hosts: &[String]) -> Vec<&'static str> {
    let settings = &app.settings;
    let is_passing = |origin: &Origin| matches!(origin, Origin::Flag(_) | Origin::Variable(_));
    let mut missing = Vec::new();
    if settings.url.as_ref().is_none_or(|url| is_passing(&url.origin)) {
        missing.push("`url`");
    }
    let is_passing_token = match app.source() {
        Ok(TokenSource::File { .. }) => {
            settings.token_file.as_ref().is_some_and(|file| is_passing(&file.origin))
        }
        Ok(TokenSource::Command(_)) => {
            settings.token_command.as_ref().is_some_and(|command| is_passing(&command.origin))
        }
        // Jobs and nodes have theirs wherever a client is started, and a login is a file.
        Ok(
            TokenSource::GitHub(_)
            | TokenSource::Buildkite(_)
            | TokenSource::Kubernetes { .. }
            | TokenSource::ServiceAccount { .. }
            | TokenSource::Login(_),
        ) => false,
        Ok(TokenSource::Variable { .. }) | Err(_) => true,
    };
    if is_passing_token {
        missing.push("`token_file` or `token_command`");
    }
    let has_project = |host: &String| {
        let mut entries = settings.hosts.iter();
        entries.any(|(key, entry)| names::is_key_of(key, host) && entry.project.is_some())
    };
    let is_passing_project =
        settings.project.as_ref().is_none_or(|project| is_passing(&project.origin));
    if is_passing_project && !hosts.iter().all(has_project) {
        missing.push("`project` or `[hosts]`");
    }
    missing
}
