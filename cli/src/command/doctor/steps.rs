//! The steps of `doctor`. Each returns what the following steps need.

use std::path::Path;

use super::{Outcome, Report};
use crate::app::App;
use crate::broker::{Broker, Clock, Credentials, Explained, Wanted};
use crate::deadline::spoken;
use crate::docker::{ConfigFile, HELPER, preferred_logins};
use crate::failure::{Failure, shown};
use crate::give_back::{Returnable, give_all_back};
use crate::names;
use crate::settings::{BrokerUrl, Settings, Stated};
use crate::token::{ORDER, Token, TokenSource};
use crate::transport::{Authorization, Exchange, Transport, TransportError};
use crate::{allowed, credentials};
use ureq::http::Method;

/// The steps in order.
pub(super) const NAMES: &[&str] = &[
    "settings",
    "broker",
    "clock",
    "token",
    "identity",
    "project",
    "credential",
    "cache",
    "registry",
    "docker",
];

pub(super) fn check_all(app: &App, report: &mut Report) {
    report.add("settings", settings(&app.settings));
    let waiting = app.terminal.waiting("asking the broker");
    let reached = broker(app);
    drop(waiting);
    let broker = report.add_result("broker", reached);
    report.add("clock", broker.as_ref().map_or_else(not_reached, |(_, clock)| of_clock(*clock)));
    let found = source(app);
    let identity = found.as_ref().ok().map(|(source, _)| source.identity(&app.settings));
    let token = found.and_then(|(source, text)| {
        Ok((source.token(&app.settings, &app.environment, app.patience)?, text))
    });
    let token = report.add_result("token", token);
    let both = broker.as_ref().map(|(broker, _)| broker).zip(token.as_ref());
    let known = if let Some((broker, token)) = both {
        report.add_result("identity", who(app, broker, token))
    } else {
        report.add("identity", not_reached());
        None
    };
    let wanted = report.add_result("project", project(app));
    let granted =
        if let (Some((broker, token)), Some(wanted), Some(who)) = (both, wanted.as_ref(), known) {
            let granted = credential(app, broker, token, wanted);
            let granted = granted.map_err(|failure| allowed::with_grants(wanted, failure, &who));
            report.add_result("credential", granted)
        } else {
            report.add("credential", not_reached());
            None
        };
    let kept = identity.zip(wanted).map(|(identity, wanted)| cache(app, &identity, &wanted));
    report.add("cache", kept.unwrap_or_else(not_reached));
    let accepted = granted.as_ref().map_or_else(not_reached, |granted| registry(app, granted));
    report.add("registry", accepted);
    report.add("docker", docker(app, granted.as_ref()));
    let returnable = granted.as_ref().and_then(Returnable::of);
    give_all_back(app, returnable.as_slice(), app.patience.restarted());
}

fn not_reached() -> Outcome {
    Outcome::Skipped("not reached".to_owned())
}

fn settings(settings: &Settings) -> Outcome {
    let files = [&settings.file, &settings.checkout];
    let files: Vec<_> =
        files.into_iter().flatten().map(|path| path.display().to_string()).collect();
    Outcome::Good(match files.as_slice() {
        [] => "no files; only the environment and the command line".to_owned(),
        files => files.join(", "),
    })
}

fn broker(app: &App) -> Result<((Broker, Option<Clock>), String), Failure> {
    let broker = app.broker()?;
    let clock = broker.clock(app.patience.deadline())?;
    let origin = app.settings.url.as_ref().map(|url| url.origin.to_string()).unwrap_or_default();
    let text = format!("a server answers at {} ({origin})", broker.url());
    Ok(((broker, clock), text))
}

fn of_clock(clock: Option<Clock>) -> Outcome {
    let off = |seconds, how| {
        Outcome::Bad(Failure::Token(format!(
            "this machine's clock is {} {how} the broker's: set it",
            spoken(seconds)
        )))
    };
    match clock {
        Some(Clock::Right) => Outcome::Good("the same as the broker's".to_owned()),
        Some(Clock::Ahead(seconds)) => off(seconds, "ahead of"),
        Some(Clock::Behind(seconds)) => off(seconds, "behind"),
        None => Outcome::Skipped("the broker's answer does not contain the time".to_owned()),
    }
}

/// The result of [`TokenSource::find`], and the names of the absent sources before it.
fn source(app: &App) -> Result<(TokenSource, String), Failure> {
    let mut absent = Vec::new();
    for (name, find) in ORDER {
        if let Some(source) = find(&app.settings, &app.environment)? {
            let name = source.name();
            let text = match absent.as_slice() {
                [] => name,
                absent => format!("{name}; absent: {}", absent.join(", ")),
            };
            return Ok((source, text));
        }
        absent.push(*name);
    }
    app.source().map(|source| (source, String::new()))
}

fn who(app: &App, broker: &Broker, token: &Token) -> Result<(Explained, String), Failure> {
    let who = broker.explain(token, None, app.patience.deadline())?;
    let text = format!("{} of issuer {}", shown(&who.sub), shown(&who.issuer));
    Ok((who, text))
}

fn project(app: &App) -> Result<(Wanted, String), Failure> {
    let project = app.settings.project()?.to_owned();
    let of = |stated: &Option<Stated<String>>| {
        stated.as_ref().map(|Stated { value, origin }| format!("{value} ({origin})"))
    };
    let mut text = of(&app.settings.project).unwrap_or_default();
    if let Some(registry) = of(&app.settings.registry) {
        text = format!("{text}, registry {registry}");
    }
    let registry = app.settings.registry().map(ToOwned::to_owned);
    Ok((Wanted { project: Some(project), registry, ..Wanted::default() }, text))
}

fn credential(
    app: &App,
    broker: &Broker,
    token: &Token,
    wanted: &Wanted,
) -> Result<(Credentials, String), Failure> {
    let credentials = broker.credentials(token, wanted, app.patience.deadline())?;
    let lifetime =
        credentials.expires_in.map_or_else(String::new, |left| format!(" for {}", spoken(left)));
    let text = format!(
        "{} {}{lifetime}, scope {}",
        shown(&credentials.actions.join(" and ")),
        credentials.image,
        shown(&credentials.scope)
    );
    Ok((credentials, text))
}

fn cache(app: &App, identity: &str, wanted: &Wanted) -> Outcome {
    let tried = credentials::key_of(app, identity, wanted).map(|key| {
        let cache = app.cache();
        cache
            .load(&key)
            .and_then(|_| cache.lock(&key))
            .map(|_| cache.directory().map(Path::to_owned))
    });
    match tried {
        Ok(Ok(directory)) => {
            Outcome::Good(directory.map_or_else(String::new, |path| path.display().to_string()))
        }
        Ok(Err(complaint)) => Outcome::Bad(Failure::Files(complaint)),
        Err(_) => not_reached(),
    }
}

/// Sends the login to the registry's base URL. Only an upload shows whether uploads are allowed.
fn registry(app: &App, credentials: &Credentials) -> Outcome {
    if credentials.password.expose().is_empty() {
        let text = "the broker issues no credential here, and yours is not tested";
        return Outcome::Skipped(text.to_owned());
    }
    let Some((user, password)) = credentials.login() else {
        return Outcome::Skipped("docker cannot use this kind of credential".to_owned());
    };
    let host = names::api_host(&credentials.registry_url);
    let plain = BrokerUrl::parse(&format!("http://{host}"), "registry_url");
    let url = plain.or_else(|_| BrokerUrl::parse(&format!("https://{host}"), "registry_url"));
    // RISE_CA_FILE is for the broker alone.
    let settings = Settings { ca_file: None, ..app.settings.clone() };
    let transport =
        url.and_then(|url| Ok((Transport::new(&url, &settings, &app.environment)?, url)));
    let (transport, url) = match transport {
        Ok(both) => both,
        Err(failure) => return Outcome::Bad(failure),
    };
    let _waiting = app.terminal.waiting("asking the registry");
    let reply = transport.send(&Exchange {
        method: Method::GET,
        url: &url.join("/v2/"),
        authorization: Authorization::Basic(user, password),
        body: None,
        deadline: app.patience.deadline(),
    });
    match reply {
        Ok(reply) if reply.status.is_success() => {
            Outcome::Good(format!("{host} accepts the login"))
        }
        Ok(reply) if reply.status.as_u16() == 401 && reply.challenges_for("bearer") => {
            Outcome::Skipped(format!(
                "{host} answers, and exchanges the login for tokens of its own"
            ))
        }
        Ok(reply) if matches!(reply.status.as_u16(), 401 | 403) => {
            Outcome::Bad(Failure::Token(format!(
                "the registry at {host} rejects the login from the broker ({}): ask the broker's \
                 operator",
                reply.status.as_u16()
            )))
        }
        Ok(reply) => Outcome::Bad(Failure::Unavailable(format!(
            "the registry at {host} answers {}: ask its operator",
            reply.status.as_u16()
        ))),
        // Docker has its own folder for certificates.
        Err(TransportError::Certificate(_)) => Outcome::Skipped(format!(
            "this machine does not trust the certificate of {host}; docker also reads \
             /etc/docker/certs.d"
        )),
        Err(error) => Outcome::Bad(error.towards(
            &format!("the registry at {host}"),
            "`registry_url` in the broker's settings",
        )),
    }
}

fn docker(app: &App, granted: Option<&Credentials>) -> Outcome {
    let config = match ConfigFile::of_docker(&app.environment) {
        Ok(config) => config,
        Err(failure) => {
            let text = format!("{}; `rise-registry exec` works without it", failure.line());
            return Outcome::Skipped(text);
        }
    };
    let Some(granted) = granted else { return not_reached() };
    let host = granted.registry_url.as_str();
    let preferred = preferred_logins(&app.environment, host, Some(&granted.image));
    if !preferred.is_empty() {
        return Outcome::Bad(Failure::Files(preferred.join("; ")));
    }
    if granted.password.expose().is_empty() {
        return Outcome::Skipped(format!("docker uses your own login for {host}"));
    }
    let helper = config.helper_or_store(host);
    if let (None, Some(path)) = (helper, config.with_login(host)) {
        return Outcome::Skipped(format!(
            "docker uses the login for {host} in {}; `rise-registry docker-login` replaces it",
            path.display()
        ));
    }
    if let Some(other) = helper.filter(|name| *name != HELPER) {
        return Outcome::Skipped(format!(
            "`{}` of {} makes docker ask docker-credential-{} for {host}: use `rise-registry exec` \
             or `configure docker`",
            config.member_with_helper(host),
            config.path().display(),
            shown(other)
        ));
    }
    if helper.is_none() {
        return Outcome::Skipped(format!(
            "docker does not ask docker-credential-rise for {host}: use `rise-registry exec`, \
             `docker-login` or `configure docker`"
        ));
    }
    if app.environment.has_helper_on_path() {
        return Outcome::Good(format!("docker asks docker-credential-rise for {host}"));
    }
    Outcome::Bad(Failure::Files(
        "docker asks docker-credential-rise, which is not in a folder of PATH: install it there"
            .to_owned(),
    ))
}
