//! `get`: finds the broker's registry with this host, and the project.
//!
//! Clients state only the host. For other hosts the answer is [`NOT_FOUND`], and clients go on
//! without credentials. For the broker's hosts every problem is a failure: without credentials, the
//! client would report a misleading error.

use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use super::{NO_SERVER, NOT_FOUND};
use crate::app::App;
use crate::broker::{ListedRegistry, Wanted};
use crate::cache::Complaint;
use crate::credentials::{self, Obtained};
use crate::docker::{ConfigFile, HELPER};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::settings::{HostSettings, Origin};
use crate::{names, registries};

/// The longest delay for the pull of somebody else's image.
const RECOGNITION: Duration = Duration::from_secs(3);

pub(super) enum NoAnswer {
    /// A text that clients compare literally.
    Literal(&'static str),
    /// Nothing shows that the host is the broker's, because of this failure.
    Unknown(Failure),
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

pub(super) fn get(
    settings: Result<App, Failure>,
    environment: &Environment,
    server: &str,
) -> Result<HelperAnswer, NoAnswer> {
    if server.is_empty() {
        return Err(NoAnswer::Literal(NO_SERVER));
    }
    let host = names::host(server).ok_or(NoAnswer::Literal(NOT_FOUND))?;
    let app = &settings.map_err(|failure| {
        if is_named_by_a_client(environment, host) {
            NoAnswer::Failure(failure)
        } else {
            NoAnswer::Unknown(failure)
        }
    })?;
    let mut entries = app.settings.hosts.iter();
    let mapped = entries.find(|(key, _)| names::is_key_of(key, host)).map(|(_, entry)| entry);
    if let Err(failure) = app.settings.url() {
        // Without a broker, no host can be its own. The helper must not block other registries.
        let is_ours = mapped.is_some() || is_named_by_a_client(environment, host);
        return Err(if is_ours {
            NoAnswer::Unknown(failure)
        } else {
            NoAnswer::Literal(NOT_FOUND)
        });
    }
    let listed = recognize(app, host, mapped)?;
    let obtained = match project(app, mapped) {
        Some(project) => with_project(app, host, mapped, project, listed)?,
        None => without_project(app, host, server)?,
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

/// Fails unless the host is the broker's: a settings file names it, or the broker lists it. Returns
/// the name of the listed registry.
///
/// Nobody who pulls from another registry may suffer from the state of the broker, the token or the
/// network, so an unknown host costs one short request for the list, and no credential.
fn recognize(
    app: &App,
    host: &str,
    mapped: Option<&HostSettings>,
) -> Result<Option<String>, NoAnswer> {
    let is_configured = mapped.is_some() || is_named_by_a_client(&app.environment, host);
    let was_listed =
        registries::last_cached(app).is_some_and(|registries| of_host(&registries, host).is_some());
    let registries = match registries::cached(app) {
        Some(registries) => registries,
        None if is_configured => return Ok(None),
        None if was_listed => registries::request(app, app.patience)?,
        None => registries::request(app, app.patience.once_within(RECOGNITION))
            .map_err(NoAnswer::Unknown)?,
    };
    match of_host(&registries, host) {
        None if !is_configured => Err(NoAnswer::Literal(NOT_FOUND)),
        listed => Ok(listed),
    }
}

fn with_project(
    app: &App,
    host: &str,
    mapped: Option<&HostSettings>,
    project: String,
    listed: Option<String>,
) -> Result<Obtained, NoAnswer> {
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
    let registry = of_host(&registries::request(app, app.patience)?, host);
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

/// Whether `[hosts]`, the last list of the broker or, without a list, a client's file has the host.
/// Asks nobody.
pub(super) fn is_known_as_the_brokers(app: &App, host: &str) -> bool {
    let is_listed = match registries::last_cached(app) {
        Some(listed) => of_host(&listed, host).is_some(),
        // Somebody has configured this very host, and not all hosts.
        None => is_named_by_a_client(&app.environment, host),
    };
    is_listed || app.settings.hosts.keys().any(|key| names::is_key_of(key, host))
}

/// Whether the file of docker or podman names this helper for the host.
fn is_named_by_a_client(environment: &Environment, host: &str) -> bool {
    let podman = ConfigFile::of_podman(environment);
    let mut files = ConfigFile::of_docker(environment).ok().into_iter().chain(podman);
    files.any(|file| file.helper(host) == Some(HELPER))
}

/// Some clients state the whole image, which needs no project.
fn without_project(app: &App, host: &str, server: &str) -> Result<Obtained, NoAnswer> {
    let image = server.split_once("://").map_or(server, |(_, rest)| rest);
    // `https://HOST/v2/` names the host alone.
    let path = image.strip_prefix(host).unwrap_or_default().trim_matches('/');
    if matches!(path, "" | "v1" | "v2") || !names::is_image(image) {
        return Err(NoAnswer::Failure(Failure::Settings(format!(
            "no project is named for {host}: write `{host:?} = \"PROJECT\"` under `[hosts]` in \
             ~/.config/rise/registry.toml, or set RISE_PROJECT, or write `project = \"…\"` into \
             .rise.toml"
        ))));
    }
    let wanted = Wanted { image: Some(image.to_owned()), ..Wanted::default() };
    let obtained = credentials::obtain(app, &wanted)?;
    if is_for(&obtained, host) { Ok(obtained) } else { Err(elsewhere(&obtained, host).into()) }
}

fn is_for(obtained: &Obtained, host: &str) -> bool {
    names::host(&obtained.kept.credentials.registry_url)
        .is_some_and(|ours| names::is_same_registry(ours, host))
}

fn of_host(registries: &[ListedRegistry], host: &str) -> Option<String> {
    let is_there =
        |registry: &&ListedRegistry| names::is_same_registry(&registry.registry_url, host);
    registries.iter().find(is_there).map(|registry| registry.registry.clone())
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
