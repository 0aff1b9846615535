//! Client of the broker's HTTP API (`docs/http-api.md`).

mod answer;
mod problem;
mod repository;
mod revocation;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use ureq::http::Method;
use zeroize::Zeroizing;

pub(crate) use self::answer::{Credentials, CredentialsForm, Kind};
pub(crate) use self::repository::{ManagedRepository, Ownership, RepositoryRequest};
pub(crate) use self::revocation::{
    CredentialState, EndedCredential, RevocationRequest, Revocations,
};

use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::failure::{Failure, shown};
use crate::patience::Setback;
use crate::settings::{BrokerUrl, Settings};
use crate::token::Token;
use crate::transport::{Authorization, Exchange, Reply, Transport};

/// Seconds. Clocks that differ by more make tokens look expired or not yet valid.
const SKEW: u64 = 60;
/// The longest list of registries that is accepted. No caller reaches as many.
const REGISTRIES: usize = 1_000;

pub(crate) struct Broker {
    url: BrokerUrl,
    transport: Transport,
    now: fn() -> u64,
}

/// A request for credentials. Every member satisfies the broker's grammar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) project: Option<String>,
    /// An image reference that replaces the project.
    pub(crate) image: Option<String>,
    pub(crate) registry: Option<String>,
    /// Empty requests every action that the caller may perform.
    pub(crate) actions: Vec<String>,
    pub(crate) lifetime: Option<u32>,
}

/// A registry that the caller may use.
#[derive(Clone, Debug, Deserialize, serde::Serialize, PartialEq, Eq)]
pub(crate) struct ListedRegistry {
    pub(crate) registry: String,
    pub(crate) registry_url: String,
    /// Image reference that contains `{project}`.
    pub(crate) image: String,
    /// The most components of a project. Older brokers do not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project_depth: Option<usize>,
    pub(crate) r#type: String,
    /// What a credential opens at least. Older brokers do not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    /// When the broker creates repositories. Older brokers do not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) creates_repositories: Option<String>,
}

impl ListedRegistry {
    /// Whether the broker issues no credentials for it, so that callers use their own logins.
    pub(crate) fn is_for_own_logins(&self) -> bool {
        self.scope.as_deref() == Some("none")
    }
}

#[derive(Deserialize)]
struct Registries {
    registries: Vec<ListedRegistry>,
}

/// The caller's identity as the broker sees it, and its grants.
#[derive(Debug, Deserialize, serde::Serialize)]
pub(crate) struct Explained {
    pub(crate) issuer: String,
    pub(crate) sub: String,
    #[serde(default)]
    pub(crate) claims: Map<String, Value>,
    #[serde(default)]
    pub(crate) grants: Vec<Grant>,
}

#[derive(Debug, Deserialize, serde::Serialize)]
pub(crate) struct Grant {
    pub(crate) registry: String,
    /// A project's name, a prefix such as `team-*`, or `*`.
    pub(crate) projects: String,
    pub(crate) actions: Vec<String>,
}

/// Difference between this machine's clock and the broker's, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Right,
    Ahead(u64),
    Behind(u64),
}

impl Broker {
    pub(crate) fn new(
        settings: &Settings,
        environment: &Environment,
        now: fn() -> u64,
    ) -> Result<Self, Failure> {
        let url = settings.url()?.clone();
        let transport = Transport::new(&url, settings, environment)?;
        Ok(Self { url, transport, now })
    }

    pub(crate) fn url(&self) -> &BrokerUrl {
        &self.url
    }

    pub(crate) fn credentials(
        &self,
        token: &Token,
        wanted: &Wanted,
        deadline: Deadline,
    ) -> Result<Credentials, Setback> {
        let mut body = serde_json::Map::new();
        let mut member = |name: &str, value: Value| {
            if !value.is_null() {
                body.insert(name.to_owned(), value);
            }
        };
        member("project", wanted.project.clone().into());
        member("image", wanted.image.clone().into());
        member("registry", wanted.registry.clone().into());
        member("lifetime", wanted.lifetime.into());
        if !wanted.actions.is_empty() {
            member("actions", wanted.actions.clone().into());
        }
        let path = "/api/v1/registry/credentials";
        let reply =
            self.ask(token, Method::POST, path, Some(Value::Object(body).to_string()), deadline)?;
        Credentials::read(&reply.body).map_err(|why| self.nonsense(&why).into())
    }

    pub(crate) fn registries(
        &self,
        token: &Token,
        deadline: Deadline,
    ) -> Result<Vec<ListedRegistry>, Setback> {
        let reply = self.ask(token, Method::GET, "/api/v1/registries", None, deadline)?;
        let answer: Registries =
            serde_json::from_slice(&reply.body).map_err(|error| self.nonsense(&error))?;
        let visible = |text: &str| text.len() <= 1024 && !text.chars().any(char::is_control);
        let sound = answer.registries.len() <= REGISTRIES
            && answer.registries.iter().all(|registry| {
                let ListedRegistry { registry: name, registry_url, image, r#type, .. } = registry;
                let texts = [name, registry_url, image, r#type].into_iter();
                let texts = texts.chain(&registry.scope).chain(&registry.creates_repositories);
                texts.into_iter().all(|text| visible(text))
            });
        if sound { Ok(answer.registries) } else { Err(self.nonsense(&"control characters").into()) }
    }

    /// Without a project, the answer covers all projects.
    pub(crate) fn explain(
        &self,
        token: &Token,
        project: Option<&str>,
        deadline: Deadline,
    ) -> Result<Explained, Setback> {
        let body = project.map_or_else(|| json!({}), |project| json!({ "project": project }));
        let path = "/api/v1/explain";
        let reply = self.ask(token, Method::POST, path, Some(body.to_string()), deadline)?;
        serde_json::from_slice(&reply.body).map_err(|error| self.nonsense(&error).into())
    }

    /// Compares clocks by the `Date` header of any answer, because `doctor` has no token yet.
    /// Returns `None` if the answer has no such header.
    pub(crate) fn clock(&self, deadline: Deadline) -> Result<Option<Clock>, Failure> {
        let url = self.url.join("/api/v1/openapi.json");
        let exchange = Exchange {
            method: Method::GET,
            url: &url,
            authorization: Authorization::Nobody,
            body: None,
            deadline,
        };
        let reply = self.transport.send(&exchange);
        let reply = reply.map_err(|error| error.towards(&self.whom(), "RISE_URL"))?;
        if reply.status.as_u16() == 404 {
            return Err(problem::unknown_path(&self.whom(), ""));
        }
        Ok(reply.date.map(|date| Clock::compare((self.now)(), date)))
    }

    fn ask(
        &self,
        token: &Token,
        method: Method,
        path: &str,
        body: Option<String>,
        deadline: Deadline,
    ) -> Result<Reply, Setback> {
        let url = self.url.join(path);
        let exchange = Exchange {
            method,
            url: &url,
            authorization: Authorization::Bearer(&token.secret),
            body: body.map(|text| ("application/json", Zeroizing::new(text))),
            deadline,
        };
        let reply = self.transport.send(&exchange);
        let reply = reply.map_err(|error| error.setback(&self.whom(), "RISE_URL"))?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(problem::setback(&self.whom(), &reply, token, (self.now)()))
    }

    fn whom(&self) -> String {
        format!("the broker at {}", self.url)
    }

    fn nonsense(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Untrusted(format!(
            "{} does not answer like a broker ({}): check RISE_URL",
            self.whom(),
            shown(&why.to_string())
        ))
    }
}

impl Clock {
    pub(crate) fn compare(ours: u64, theirs: u64) -> Self {
        let apart = ours.abs_diff(theirs);
        match (apart <= SKEW, ours > theirs) {
            (true, _) => Self::Right,
            (false, true) => Self::Ahead(apart),
            (false, false) => Self::Behind(apart),
        }
    }
}
