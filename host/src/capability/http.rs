//! `http`: requests to the endpoints that the operator allows a registry. Providers compose them,
//! and the host sends them.
//!
//! A provider chooses the content of a request and the places of secrets in it. [`ceiling`] checks
//! where the request goes, [`request`] checks its content, [`client`] resolves names and connects
//! only to addresses that are allowed, and [`response`] shows the answer without the registry's
//! secrets. The host cannot know what a credential in the answer opens: that is as narrow as the
//! provider says (`enforced_by: provider`).
//!
//! **Invariant:** a request leaves through `exchange` alone, and only in a call with a grant or one
//! of `leftovers`. A call that looks for leftovers only reads.

pub mod ceiling;
pub mod client;
mod echo;
mod request;
mod response;

pub use request::Request;
pub use response::Response;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use hyper::body::Bytes;
use reqwest::header::HeaderMap;
use url::Url;
use wasmtime::component::{Linker, Resource};
use zeroize::Zeroizing;

use super::secrets::{SecretHandle, SecretOrigin, jwt_expiry};
use super::state::{Errand, HasState};
use super::{CallState, Capabilities, LimitExceeded, printable};
use crate::capability::wit::rise::registry::http::{self, Method};
use crate::capability::wit::rise::registry::types::Error;
use crate::telemetry::traces;
use ceiling::HttpCeiling;
use request::{Composed, NotSent};

/// The longest body of an answer, in bytes. No provider gets a longer one.
pub const LARGEST_BODY: usize = 256 << 10;
/// The longest path of a request that a message shows, in bytes.
const LONGEST_PATH_SHOWN: usize = 256;

/// Sends requests for one registry. [`client::ReqwestHttp`] in production.
#[async_trait]
pub trait Http: Send + Sync {
    async fn send(&self, request: Outgoing) -> Result<HttpAnswer, HttpError>;
}

/// A request that was checked.
pub struct Outgoing {
    pub method: reqwest::Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

/// An answer, within its limits.
pub struct HttpAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0}")]
    OutOfReach(String),
    #[error("no answer in time: {0}")]
    TimedOut(String),
    #[error("cannot be reached: {0}")]
    Unavailable(String),
    #[error("{0}")]
    Nonsense(String),
}

impl HttpError {
    /// The registry answered with more than [`LARGEST_BODY`].
    pub fn body_too_long() -> Self {
        Self::Nonsense(format!("an answer of more than {LARGEST_BODY} bytes"))
    }
}

/// The ceiling of one registry over HTTP, and the client that sends requests.
#[derive(Clone)]
pub struct HttpAccess {
    pub ceiling: HttpCeiling,
    pub client: Arc<dyn Http>,
}

/// A request in flight. It is counted and logged when it is dropped, because the deadline of the
/// provider call may end it first.
struct RequestInFlight {
    metrics: crate::telemetry::Metrics,
    capabilities: Arc<Capabilities>,
    digest: Arc<str>,
    method: &'static str,
    host: String,
    path: String,
    /// The names of the secrets in the request.
    secrets: String,
    status: Option<u16>,
    outcome: &'static str,
    started: Instant,
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        let Self { method, host, path, secrets, status, outcome, .. } = self;
        let (registry, elapsed) = (&self.capabilities.registry, self.started.elapsed());
        self.metrics.upstream_call(registry, method, outcome, elapsed);
        let facts =
            [("rise.registry", &**registry), ("rise.outcome", *outcome), ("server.address", host)];
        traces::called(method, self.started, &facts);
        tracing::info!(
            %registry, digest = %self.digest, %method, %host, %path, %outcome,
            status = status.unwrap_or(0),
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX), %secrets,
            "a provider sent an HTTP request"
        );
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    http::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl CallState {
    /// Checks and sends a request, and reads the answer.
    async fn exchange(&mut self, request: Request) -> Result<Response, Error> {
        let errand = self.begin_for_registry("http.send")?;
        // Counted before anything is checked: checking costs time too.
        self.http_calls += 1;
        if self.http_calls > self.limits.http_calls {
            return Err(self.refuse(format!("more than {} HTTP requests", self.limits.http_calls)));
        }
        let capabilities = Arc::clone(&self.capabilities);
        let Some(access) = &capabilities.http else {
            return Err(self.refuse("HTTP, which this registry's settings do not allow".to_owned()));
        };
        let (method, url) = (request.method, request.url.clone());
        // The content comes first: a URL with a secret must not appear in a message about the URL.
        let composed = request.compose(&capabilities).map_err(|wrong| match wrong {
            NotSent::Refused(text) => self.refuse(text),
            NotSent::Failed(text) => Error::Failed(text),
            NotSent::Settings(text) => Error::InvalidSettings(text),
        })?;
        let project = match &errand {
            Errand::For(grant) => Some(grant.project()),
            Errand::Look if !matches!(method, Method::Get | Method::Head) => {
                let asked = ceiling::name(method);
                return Err(self.refuse(format!("{asked} in `leftovers.find`, which only reads")));
            }
            Errand::Look | Errand::End => None,
        };
        let url = access
            .ceiling
            .admit(method, &url, project)
            .map_err(|beyond| self.refuse(beyond.to_string()))?;
        self.send(access, method, url, composed).await
    }

    async fn send(
        &mut self,
        access: &HttpAccess,
        method: Method,
        url: Url,
        composed: Composed,
    ) -> Result<Response, Error> {
        let Composed { headers, body, secrets } = composed;
        let host = url.authority().to_owned();
        // A query may have private content, and no message shows it.
        let path = printable(url.path(), LONGEST_PATH_SHOWN);
        let path = self.withheld(&path).map_or(path, |_| "/(withheld)".to_owned());
        let asked = format!("{} {host}{path}", ceiling::name(method));
        let mut sent = RequestInFlight {
            metrics: self.metrics.clone(),
            capabilities: Arc::clone(&self.capabilities),
            digest: Arc::clone(&self.digest),
            method: ceiling::name(method),
            host,
            path,
            secrets: secrets.into_iter().collect::<Vec<_>>().join(","),
            status: None,
            outcome: "timed-out",
            started: Instant::now(),
        };
        let method = sent_as(method);
        self.upstream_slow = true;
        let answer = access.client.send(Outgoing { method, url, headers, body }).await;
        self.upstream_slow = matches!(answer, Err(HttpError::TimedOut(_)));
        let answer = answer.map_err(|error| {
            let registry = &self.capabilities.registry;
            let text = format!("{asked}: {}", printable(&error.to_string(), 512));
            tracing::warn!(%registry, error = %text, "an HTTP request of a provider failed");
            let (outcome, error) = match error {
                HttpError::OutOfReach(_) => ("refused", self.refuse(text)),
                HttpError::TimedOut(_) => ("timed-out", Error::Unavailable(text)),
                HttpError::Unavailable(_) => ("unavailable", Error::Unavailable(text)),
                HttpError::Nonsense(_) => ("nonsense", Error::Failed(text)),
            };
            sent.outcome = outcome;
            error
        })?;
        sent.status = Some(answer.status);
        let known = (&*self.capabilities, &self.issued);
        let response = Response::read(answer, asked, self.now, known);
        let response = response.map_err(|echoed| {
            sent.outcome = "withheld";
            let registry = &self.capabilities.registry;
            tracing::warn!(%registry, digest = %self.digest, "{echoed}");
            Error::Failed(echoed.to_string())
        })?;
        self.issued.add_answer(response.body());
        sent.outcome = outcome(&response);
        Ok(response)
    }

    /// Text that the host keeps for a guest counts like the guest's own memory.
    fn charge_memory(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if self.memory.charge(bytes) { Ok(()) } else { Err(LimitExceeded("request bytes").into()) }
    }

    fn write(
        &mut self,
        request: &Resource<Request>,
        bytes: usize,
        write: impl FnOnce(&mut Request),
    ) -> wasmtime::Result<()> {
        // The bookkeeping of each part counts too, however short the part is.
        self.charge_memory(bytes + size_of::<SecretHandle>() * 2)?;
        write(self.table.get_mut(request)?);
        Ok(())
    }
}

fn sent_as(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// The outcome of a request, as metrics name it.
fn outcome(response: &Response) -> &'static str {
    match response.success() {
        Ok(()) => "ok",
        Err(Error::Denied(_)) => "denied",
        Err(Error::NotFound(_)) => "not-found",
        Err(Error::Throttled(_)) => "throttled",
        Err(Error::Unavailable(_)) => "unavailable",
        Err(
            Error::InvalidSettings(_)
            | Error::Refused(_)
            | Error::Unsupported(_)
            | Error::Failed(_),
        ) => "failed",
    }
}

impl http::Host for CallState {
    async fn send(
        &mut self,
        request: Resource<Request>,
    ) -> wasmtime::Result<Result<Resource<Response>, Error>> {
        let request = self.table.delete(request)?;
        match self.exchange(request).await {
            Ok(response) => Ok(Ok(self.table.push(response)?)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl http::HostRequest for CallState {
    fn new(&mut self, method: Method, url: String) -> wasmtime::Result<Resource<Request>> {
        self.charge_memory(url.len() + size_of::<Request>())?;
        Ok(self.table.push(Request::new(method, url))?)
    }

    fn header(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.write(&request, name.len() + value.len(), |request| request.header(name, value))
    }

    fn header_secret(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let value = self.table.get(&value)?.clone();
        self.write(&request, name.len(), |request| request.header_secret(name, value))
    }

    fn bearer(
        &mut self,
        request: Resource<Request>,
        token: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let token = self.table.get(&token)?.clone();
        self.write(&request, 0, |request| request.bearer(token))
    }

    fn basic(
        &mut self,
        request: Resource<Request>,
        username: String,
        password: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let password = self.table.get(&password)?.clone();
        self.write(&request, username.len(), |request| request.basic(username, password))
    }

    fn json(&mut self, request: Resource<Request>, text: String) -> wasmtime::Result<()> {
        self.write(&request, text.len(), |request| request.json(text))
    }

    fn json_secret(
        &mut self,
        request: Resource<Request>,
        pointer: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let value = self.table.get(&value)?.clone();
        self.write(&request, pointer.len(), |request| request.json_secret(pointer, value))
    }

    fn form(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: String,
    ) -> wasmtime::Result<()> {
        self.write(&request, name.len() + value.len(), |request| request.form(name, value))
    }

    fn form_secret(
        &mut self,
        request: Resource<Request>,
        name: String,
        value: Resource<SecretHandle>,
    ) -> wasmtime::Result<()> {
        let value = self.table.get(&value)?.clone();
        self.write(&request, name.len(), |request| request.form_secret(name, value))
    }

    fn drop(&mut self, request: Resource<Request>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

impl http::HostResponse for CallState {
    fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.status())
    }

    fn success(&mut self, response: Resource<Response>) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.table.get(&response)?.success())
    }

    fn header(
        &mut self,
        response: Resource<Response>,
        name: String,
    ) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&response)?.header(&name))
    }

    fn text(&mut self, response: Resource<Response>) -> wasmtime::Result<String> {
        Ok(self.table.get(&response)?.text())
    }

    fn take_secret(
        &mut self,
        response: Resource<Response>,
        pointer: String,
    ) -> wasmtime::Result<Option<Resource<SecretHandle>>> {
        let Some(secret) = self.table.get_mut(&response)?.take_secret(&pointer) else {
            return Ok(None);
        };
        let expires_at = jwt_expiry(secret.expose());
        let (secret, origin) = (Arc::new(secret), SecretOrigin::Http);
        let handle = SecretHandle { secret, origin, name: "http".into(), expires_at };
        Ok(Some(self.give(handle)?))
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}
