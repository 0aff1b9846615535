//! `get`: finds the broker's registry with this host, and the project.
//!
//! Clients state only the host. For other hosts the answer is [`NOT_FOUND`], and clients go on
//! without credentials. For the broker's hosts every problem is a failure: without credentials, the
//! client would report a misleading error.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{NO_SERVER, NOT_FOUND};
use crate::app::App;
use crate::broker::{Broker, ListedRegistry, Wanted};
use crate::cache::{CacheKey, Complaint};
use crate::credentials::{self, Obtained};
use crate::docker::{ConfigFile, HELPER};
use crate::failure::Failure;
use crate::names;
use crate::settings::{HostSettings, Origin};

pub(super) enum NoAnswer {
    /// A text that clients compare literally.
    Literal(&'static str),
    Failure(Failure),
}

impl From<Failure> for NoAnswer {
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

pub(super) fn get(app: App, server: &str) -> Result<HelperAnswer, NoAnswer> {
    if server.is_empty() {
        return Err(NoAnswer::Literal(NO_SERVER));
    }
    let host = names::host(server).ok_or(NoAnswer::Literal(NOT_FOUND))?;
    if app.settings.url.is_none() {
        // Without a broker, no host can be its own. The helper must not block other registries.
        return Err(NoAnswer::Literal(NOT_FOUND));
    }
    // The pull of somebody else's image must not wait for the broker.
    let app = &if is_known(&app, host) { app } else { app.without_waiting() };
    let mapped = app.settings.hosts.get(host);
    let obtained = match project(app, mapped) {
        Some(project) => with_project(app, host, mapped, project)?,
        None => without_project(app, host, mapped, server)?,
    };
    let credentials = &obtained.kept.credentials;
    let (username, secret) = credentials.login().ok_or_else(|| not_a_login(&obtained))?;
    let form = DockerCredentials { server_url: server, username, secret: secret.expose() };
    let json = Zeroizing::new(serde_json::to_string(&form).unwrap_or_default());
    Ok(HelperAnswer { json, complaints: obtained.complaints })
}

/// The project: `RISE_PROJECT`, then `.rise.toml`, then the settings file's entry for the host,
/// then its `project`.
fn project(app: &App, mapped: Option<&HostSettings>) -> Option<String> {
    let said = app.settings.project.as_ref();
    let of_all_hosts =
        |origin: &Origin| *origin == Origin::File(app.settings.file.clone().unwrap_or_default());
    let mapped = mapped.and_then(|host| host.project.clone());
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
) -> Result<Obtained, NoAnswer> {
    let known = cached_registries(app);
    let listed = known.as_deref().and_then(|list| of_host(list, host));
    if known.is_some() && listed.is_none() && !is_configured(app, host, mapped) {
        return Err(NoAnswer::Literal(NOT_FOUND));
    }
    let stated = mapped.and_then(|host| host.registry.clone());
    let stated = stated.or_else(|| app.settings.registry().map(ToOwned::to_owned));
    let registry = stated.clone().or(listed);
    let wanted = Wanted { project: Some(project), registry, ..Wanted::default() };
    let failure = match credentials::obtain(app, &wanted) {
        Ok(obtained) if is_for(&obtained, host) => return Ok(obtained),
        Ok(obtained) => elsewhere(&obtained, host),
        // No rule matches, or several registries exist and none is named. The host may not be one
        // of the broker's.
        Err(failure @ (Failure::Denied(_) | Failure::Settings(_))) => failure,
        Err(failure) => return Err(failure.into()),
    };
    let registry = of_host(&request_registries(app)?, host);
    if registry.is_none() && !is_configured(app, host, mapped) {
        return Err(NoAnswer::Literal(NOT_FOUND));
    }
    if registry.is_none() && wanted.registry.is_none() && matches!(failure, Failure::Settings(_)) {
        return Err(NoAnswer::Failure(Failure::Denied(format!(
            "the broker lists no registry at {host} for you: ask its operator for a rule, or set \
             RISE_REGISTRY"
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
        "images of project {} are at {}, not at {host}: use another image, project or registry",
        credentials.project, credentials.registry_url
    ))
}

/// Whether the host is the broker's, as far as this machine knows.
fn is_known(app: &App, host: &str) -> bool {
    let last = registries_key(app).and_then(|key| app.cache().last_registries(&key));
    let listed = last.and_then(|registries| of_host(&registries, host));
    listed.is_some() || is_configured(app, host, app.settings.hosts.get(host))
}

/// Whether this host is configured for the helper: in its settings, or in docker's or podman's
/// file.
fn is_configured(app: &App, host: &str, mapped: Option<&HostSettings>) -> bool {
    let files = ConfigFile::of_podman(&app.environment);
    let mut files = ConfigFile::of_docker(&app.environment).ok().into_iter().chain(files);
    mapped.is_some() || files.any(|file| file.helper(host) == Some(HELPER))
}

/// Some clients state the whole image, which needs no project.
fn without_project(
    app: &App,
    host: &str,
    mapped: Option<&HostSettings>,
    server: &str,
) -> Result<Obtained, NoAnswer> {
    let image = server.split_once("://").map_or(server, |(_, rest)| rest);
    let registries = match cached_registries(app).map_or_else(|| request_registries(app), Ok) {
        Ok(registries) => registries,
        Err(failure) if is_configured(app, host, mapped) => return Err(failure.into()),
        // Without an answer of the broker, nothing shows that this host is one of its own.
        Err(_) => return Err(NoAnswer::Literal(NOT_FOUND)),
    };
    if of_host(&registries, host).is_none() && !is_configured(app, host, mapped) {
        return Err(NoAnswer::Literal(NOT_FOUND));
    }
    if image.trim_end_matches('/') == host || !names::is_image(image) {
        return Err(app
            .settings
            .project()
            .map_or_else(NoAnswer::Failure, |_| NoAnswer::Literal(NOT_FOUND)));
    }
    let wanted = Wanted { image: Some(image.to_owned()), ..Wanted::default() };
    let obtained = credentials::obtain(app, &wanted)?;
    if is_for(&obtained, host) { Ok(obtained) } else { Err(elsewhere(&obtained, host).into()) }
}

fn is_for(obtained: &Obtained, host: &str) -> bool {
    names::host(&obtained.kept.credentials.registry_url)
        .is_some_and(|ours| ours.eq_ignore_ascii_case(host))
}

fn of_host(registries: &[ListedRegistry], host: &str) -> Option<String> {
    let is_there = |registry: &&ListedRegistry| registry.registry_url.eq_ignore_ascii_case(host);
    registries.iter().find(is_there).map(|registry| registry.registry.clone())
}

/// The cached list of the broker's registries.
fn cached_registries(app: &App) -> Option<Vec<ListedRegistry>> {
    app.cache().registries(&registries_key(app)?, (app.now)())
}

/// Asks the broker for its registries and caches the answer.
fn request_registries(app: &App) -> Result<Vec<ListedRegistry>, Failure> {
    let key = registries_key(app);
    let registries = app.ask(Broker::registries)?;
    if let Some(key) = key {
        app.cache().store_registries(&key, &registries, (app.now)());
    }
    Ok(registries)
}

fn registries_key(app: &App) -> Option<CacheKey> {
    let identity = app.source().ok()?.identity(&app.settings);
    Some(CacheKey::new(&["registries", app.settings.url().ok()?.as_str(), &identity]))
}

fn not_a_login(obtained: &Obtained) -> NoAnswer {
    let credentials = &obtained.kept.credentials;
    if credentials.password.expose().is_empty() {
        // The registry is used with the caller's own login, which clients find themselves.
        return NoAnswer::Literal(NOT_FOUND);
    }
    NoAnswer::Failure(Failure::Settings(format!(
        "registry {} issues a bearer token, which docker cannot get from a helper: use \
         `rise-registry credentials --format docker-config`",
        credentials.registry
    )))
}
