//! `get`: which of the broker's registries is this host, and for which project is the credential?
//!
//! Clients say the host and nothing more. Whatever is not ours is [`NOT_FOUND`], so that they go on without credentials. What
//! is ours and does not work is a failure: going on without credentials would end in a riddle.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{NO_SERVER, NOT_FOUND};
use crate::app::App;
use crate::broker::{Registry, Wanted};
use crate::cache::{CacheKey, Complaint};
use crate::credentials::{self, Obtained};
use crate::docker::{ConfigFile, HELPER};
use crate::failure::Failure;
use crate::names;
use crate::settings::{HostSettings, Origin};

pub(super) enum Refusal {
    /// The words that clients compare.
    Said(&'static str),
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

pub(super) struct HelperAnswer {
    pub(super) json: Zeroizing<String>,
    pub(super) complaints: Vec<Complaint>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerCredentials<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

pub(super) fn get(app: &App, server: &str) -> Result<HelperAnswer, Refusal> {
    if server.is_empty() {
        return Err(Refusal::Said(NO_SERVER));
    }
    let host = names::host(server).ok_or(Refusal::Said(NOT_FOUND))?;
    if app.settings.url.is_none() {
        // No host is known then. A helper for all registries must not be in the way of other people's.
        return Err(Refusal::Said(NOT_FOUND));
    }
    let mapped = app.settings.hosts.get(host);
    let obtained = match project(app, mapped) {
        Some(project) => with_project(app, host, mapped, project)?,
        None => without_project(app, host, mapped, server)?,
    };
    let credentials = &obtained.kept.credentials;
    let (username, secret) = credentials.login().ok_or_else(|| nothing_to_show(&obtained))?;
    let form = DockerCredentials { server_url: server, username, secret: secret.expose() };
    let json = Zeroizing::new(serde_json::to_string(&form).unwrap_or_default());
    Ok(HelperAnswer { json, complaints: obtained.complaints })
}

/// `RISE_PROJECT`, then `.rise.toml`, then what the settings file says of this host, then what it says of all.
fn project(app: &App, mapped: Option<&HostSettings>) -> Option<String> {
    let said = app.settings.project.as_ref();
    let of_all_hosts =
        |origin: &Origin| *origin == Origin::File(app.settings.file.clone().unwrap_or_default());
    let mapped = mapped.and_then(|it| it.project.clone());
    match said {
        Some(said) if of_all_hosts(&said.origin) => mapped.or_else(|| Some(said.value.clone())),
        Some(said) => Some(said.value.clone()),
        None => mapped,
    }
}

fn with_project(
    app: &App,
    host: &str,
    mapped: Option<&HostSettings>,
    project: String,
) -> Result<Obtained, Refusal> {
    let known = known(app);
    let listed = known.as_deref().and_then(|list| of_host(list, host));
    if known.is_some() && listed.is_none() && !is_configured(app, host, mapped) {
        return Err(Refusal::Said(NOT_FOUND));
    }
    let stated = mapped.and_then(|it| it.registry.clone());
    let stated = stated.or_else(|| app.settings.registry().map(ToOwned::to_owned));
    let registry = stated.clone().or(listed);
    let wanted = Wanted { project: Some(project), registry, ..Wanted::default() };
    let failure = match credentials::obtain(app, &wanted) {
        Ok(obtained) if is_for(&obtained, host) => return Ok(obtained),
        Ok(obtained) => elsewhere(&obtained, host),
        // No rule, or several registries and none of them named: the host may be nobody's business of ours.
        Err(failure @ (Failure::Denied(_) | Failure::Settings(_))) => failure,
        Err(failure) => return Err(failure.into()),
    };
    let registry = of_host(&list(app)?, host);
    if registry.is_none() && !is_configured(app, host, mapped) {
        return Err(Refusal::Said(NOT_FOUND));
    }
    if registry.is_none() && wanted.registry.is_none() && matches!(failure, Failure::Settings(_)) {
        return Err(Refusal::Failure(Failure::Denied(format!(
            "the broker lists no registry at {host} for you: ask its operator for a rule, or name the registry by RISE_REGISTRY"
        ))));
    }
    if registry.is_none() || registry == wanted.registry || stated.is_some() {
        return Err(failure.into());
    }
    let obtained = credentials::obtain(app, &Wanted { registry, ..wanted })?;
    if is_for(&obtained, host) { Ok(obtained) } else { Err(elsewhere(&obtained, host).into()) }
}

fn elsewhere(obtained: &Obtained, host: &str) -> Failure {
    let credentials = &obtained.kept.credentials;
    Failure::Settings(format!(
        "images of project {} are at {}, and not at {host}: name another image, project or registry",
        credentials.project, credentials.registry_url
    ))
}

/// Somebody set us up for this host: here, or in the file of docker or podman.
fn is_configured(app: &App, host: &str, mapped: Option<&HostSettings>) -> bool {
    let files = [
        ConfigFile::of_docker(&app.environment).ok(),
        app.environment.path("REGISTRY_AUTH_FILE").and_then(|path| ConfigFile::load(path).ok()),
    ];
    mapped.is_some() || files.iter().flatten().any(|it| it.helper(host) == Some(HELPER))
}

/// Some clients say more than the host; else a host of ours needs a project.
fn without_project(
    app: &App,
    host: &str,
    mapped: Option<&HostSettings>,
    server: &str,
) -> Result<Obtained, Refusal> {
    let image = server.split_once("://").map_or(server, |(_, rest)| rest);
    let registries = match known(app).map_or_else(|| list(app), Ok) {
        Ok(registries) => registries,
        Err(failure) if is_configured(app, host, mapped) => return Err(failure.into()),
        // Without a project, a token or a broker nothing says that this host is ours.
        Err(_) => return Err(Refusal::Said(NOT_FOUND)),
    };
    if of_host(&registries, host).is_none() && !is_configured(app, host, mapped) {
        return Err(Refusal::Said(NOT_FOUND));
    }
    if image.trim_end_matches('/') == host || !names::is_image(image) {
        return Err(app
            .settings
            .project()
            .map_or_else(Refusal::Failure, |_| Refusal::Said(NOT_FOUND)));
    }
    let wanted = Wanted { image: Some(image.to_owned()), ..Wanted::default() };
    let obtained = credentials::obtain(app, &wanted)?;
    if is_for(&obtained, host) { Ok(obtained) } else { Err(elsewhere(&obtained, host).into()) }
}

fn is_for(obtained: &Obtained, host: &str) -> bool {
    names::host(&obtained.kept.credentials.registry_url)
        .is_some_and(|it| it.eq_ignore_ascii_case(host))
}

fn of_host(registries: &[Registry], host: &str) -> Option<String> {
    let mut found = registries.iter().filter(|it| it.registry_url.eq_ignore_ascii_case(host));
    found.next().map(|it| it.registry.clone())
}

/// What the broker said of its registries a short while ago.
fn known(app: &App) -> Option<Vec<Registry>> {
    app.cache().registries(&registries_key(app)?, (app.now)())
}

/// Asks the broker, and keeps the answer for next time.
fn list(app: &App) -> Result<Vec<Registry>, Failure> {
    let key = registries_key(app);
    let token = app.source()?.token(&app.settings, &app.environment, app.deadline)?;
    let registries = app.broker()?.registries(&token, app.deadline)?;
    if let Some(key) = key {
        app.cache().store_registries(&key, &registries, (app.now)());
    }
    Ok(registries)
}

fn registries_key(app: &App) -> Option<CacheKey> {
    let identity = app.source().ok()?.identity(&app.settings);
    Some(CacheKey::new(&["registries", app.settings.url().ok()?.as_str(), &identity]))
}

fn nothing_to_show(obtained: &Obtained) -> Refusal {
    let credentials = &obtained.kept.credentials;
    if credentials.password.expose().is_empty() {
        // The registry is used with a login of the caller's own, which is not ours to know.
        return Refusal::Said(NOT_FOUND);
    }
    Refusal::Failure(Failure::Settings(format!(
        "registry {} hands out a bearer token, which docker cannot show: use `rise-registry credentials --format docker-config`",
        credentials.registry
    )))
}
