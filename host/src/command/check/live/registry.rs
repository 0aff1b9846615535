//! Asks a registry to which the broker itself never connects, as Docker does before a login:
//! `GET /v2/`, and with the shared account of the settings the login itself. Changes nothing.
//!
//! **Invariant:** the password goes to the registry and to the token service that it names, as with
//! each caller that gets it; and over https only, except on this machine.

mod answer;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, redirect, retry};
use serde_json::Value;
use tokio::time::{Duration, timeout};
use url::Url;
use zeroize::Zeroizing;

use super::{LiveReport, REGISTRY_DEADLINE};
use crate::domain::Reach;
use crate::reachable::{self, Reachable};
use crate::registries::Registry;
use answer::{ApiAnswer, Challenge, Judged};

const CONNECT: Duration = Duration::from_secs(2);
const ATTEMPT: Duration = Duration::from_secs(4);
/// The host of Docker Hub's API. `docker.io` is only its name in images.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Why the account or the registry is not known to be right.
enum RegistryFinding {
    /// Callers would fail, too: the setting, and what is wrong.
    Wrong { setting: &'static str, message: String },
    /// Callers on other machines may succeed.
    Unknown(String),
}

fn wrong(setting: &'static str, message: impl Into<String>) -> RegistryFinding {
    RegistryFinding::Wrong { setting, message: message.into() }
}

/// A login that callers of the registry get.
struct Account {
    username: String,
    /// The setting that has its password.
    setting: &'static str,
    header: Zeroizing<String>,
}

impl Account {
    /// Providers name them so, and a provider that only hands on secrets needs no others.
    fn all(registry: &Registry) -> Vec<Self> {
        let settings = ["password", "pull_password"];
        settings.into_iter().filter_map(|setting| Self::of(registry, setting)).collect()
    }

    fn of(registry: &Registry, setting: &'static str) -> Option<Self> {
        let secrets = &registry.capabilities.secrets;
        let settings: Value = serde_json::from_str(&registry.settings).ok()?;
        let written = || settings.get("username")?.as_str().map(str::to_owned);
        let secret = secrets.get("username").map(|secret| secret.expose().to_owned());
        let username = secret.or_else(written)?;
        let password = secrets.get(setting)?.expose();
        let login = Zeroizing::new(format!("{username}:{password}"));
        let header = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*login)));
        Some(Self { username, setting, header })
    }
}

pub(super) async fn attempt(registry: &Registry) -> LiveReport {
    let name = &registry.name;
    let mut report = LiveReport::default();
    let found = timeout(REGISTRY_DEADLINE, ask(registry)).await;
    let late = || Err(RegistryFinding::Unknown("it took longer than 20 seconds".to_owned()));
    match found.unwrap_or_else(|_| late()) {
        Ok(found) => report.done.push(format!("{name}: {found}")),
        Err(RegistryFinding::Wrong { setting, message }) => report.fail(setting, message),
        Err(RegistryFinding::Unknown(reason)) => report.done.push(format!(
            "{name}: was not tried to the end: {reason}; only callers must reach this registry, \
             and a pull or push of theirs shows whether they do"
        )),
    }
    report
}

/// Returns what works.
async fn ask(registry: &Registry) -> Result<String, RegistryFinding> {
    let host = registry.pattern.host().to_string();
    let client = client().map_err(|error| RegistryFinding::Unknown(error.to_string()))?;
    let (api, first) = first_answer(&client, &host).await?;
    let accounts = Account::all(registry);
    let challenge = match (first.judge(&api)?, accounts.is_empty()) {
        (Judged::Open, true) => return Ok(format!("{host} answers as a registry")),
        (Judged::Open, false) => {
            return Ok(format!(
                "{host} answers as a registry and asks for no login, so the account was not tried"
            ));
        }
        (Judged::Asks(_), true) => {
            return Ok(format!("{host} answers as a registry and asks callers for their login"));
        }
        (Judged::Asks(challenge), false) => challenge,
    };
    let mut accepted = Vec::new();
    for account in &accounts {
        log_in(&client, (&api, &host), &challenge, account).await?;
        accepted.push(match accounts.len() {
            1 => format!("`{}`", account.username),
            _ => format!("`{}` with `{}`", account.username, account.setting),
        });
    }
    Ok(format!("{host} accepts the login of {}", accepted.join(" and ")))
}

/// Tries one login.
async fn log_in(
    client: &Client,
    (api, host): (&Url, &str),
    challenge: &Challenge,
    account: &Account,
) -> Result<(), RegistryFinding> {
    let header = match challenge {
        Challenge::Basic => account.header.clone(),
        Challenge::Bearer { realm, service } => {
            let url = token_url(api, realm, service.as_deref(), &account.username)?;
            token(client, url, account).await?
        }
    };
    let answer = get(client, api.clone(), Some(&header)).await;
    let answer = answer.map_err(RegistryFinding::Unknown)?;
    match answer.status {
        401 | 403 => Err(rejected(account, host, answer.status)),
        _ => match answer.judge(api)? {
            Judged::Open | Judged::Asks(_) => Ok(()),
        },
    }
}

fn rejected(account: &Account, by: &str, status: u16) -> RegistryFinding {
    let message = format!(
        "{by} rejects the login of `{}` ({status}): correct `username` or `{}`, or create the \
         account",
        account.username, account.setting
    );
    wrong(account.setting, message)
}

/// Like Docker, without encryption only on this machine.
async fn first_answer(client: &Client, host: &str) -> Result<(Url, ApiAnswer), RegistryFinding> {
    let api = if host == "docker.io" { DOCKER_HUB } else { host };
    let url = |scheme: &str| Url::parse(&format!("{scheme}://{api}/v2/"));
    let mut reason = String::new();
    for scheme in ["https", "http"] {
        let url = url(scheme).map_err(|error| RegistryFinding::Unknown(error.to_string()))?;
        if scheme == "http" && !reachable::is_loopback(&url) {
            continue;
        }
        match get(client, url.clone(), None).await {
            Ok(answer) => return Ok((url, answer)),
            Err(error) => reason = error,
        }
    }
    if reason.contains("InvalidContentType") || reason.contains("corrupt message") {
        let message = format!(
            "{host} speaks no TLS: clients refuse it, unless each of them names it in \
             `insecure-registries`; give it a certificate"
        );
        return Err(wrong("registry_url", message));
    }
    Err(RegistryFinding::Unknown(format!("{host} does not answer this machine: {reason}")))
}

/// The address of a token for a login without a repository.
fn token_url(
    api: &Url,
    realm: &str,
    service: Option<&str>,
    username: &str,
) -> Result<Url, RegistryFinding> {
    let is_safe = |url: &Url| {
        url.scheme() == "https" || (reachable::is_loopback(api) && reachable::is_loopback(url))
    };
    let mut url = Url::parse(realm).ok().filter(is_safe).ok_or_else(|| {
        let shown = crate::capability::printable(realm, 256);
        wrong("registry_url", format!("its token service is `{shown}`, expected an https URL"))
    })?;
    url.query_pairs_mut()
        .extend_pairs(service.map(|service| ("service", service)))
        .append_pair("account", username)
        .append_pair("client_id", "rise-broker");
    Ok(url)
}

/// The header with a token for the account.
async fn token(
    client: &Client,
    url: Url,
    account: &Account,
) -> Result<Zeroizing<String>, RegistryFinding> {
    let service = url.origin().ascii_serialization();
    let answer = get(client, url, Some(&account.header)).await;
    let answer = answer.map_err(|error| {
        RegistryFinding::Unknown(format!("its token service {service} does not answer: {error}"))
    })?;
    match answer.status {
        200 => {}
        401 | 403 => return Err(rejected(account, &service, answer.status)),
        status => {
            let text = format!("its token service {service} answers {status}");
            return Err(RegistryFinding::Unknown(text));
        }
    }
    answer.token().map(|token| Zeroizing::new(format!("Bearer {}", &*token))).ok_or_else(|| {
        wrong("registry_url", format!("its token service {service} answers without a token"))
    })
}

fn client() -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("rise-broker/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .http1_only()
        .dns_resolver(Reachable { reach: Reach::Internal, setting: "registry_url" })
        .connect_timeout(CONNECT)
        .timeout(ATTEMPT)
        .build()
}

async fn get(
    client: &Client,
    url: Url,
    authorization: Option<&Zeroizing<String>>,
) -> Result<ApiAnswer, String> {
    if let Some(refusal) = reachable::refusal(Reach::Internal, &url, "registry_url") {
        return Err(format!("it is at {refusal}"));
    }
    let mut request = client.get(url);
    if let Some(text) = authorization {
        let mut header = HeaderValue::from_str(text).map_err(|error| error.to_string())?;
        header.set_sensitive(true);
        request = request.header(AUTHORIZATION, header);
    }
    let answer = request.send().await.map_err(answer::causes)?;
    ApiAnswer::read(answer).await.map_err(answer::causes)
}
