//! The upstreams of a provider that is checked: doubles of AWS and of a registry.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials as Keys;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::answers::ExampleAnswer;
use super::exchange::Exchange;
use super::object::{Existence, RegistryObject};
use super::repository::RepositoryDouble;
use rise_broker::capability::aws::denials::PolicyCall;
use rise_broker::capability::aws::repository::{
    RepositoryAnswer, RepositoryCall, RepositoryPage, RepositoryPlace,
};
use rise_broker::capability::aws::settings::AwsSettings;
use rise_broker::capability::aws::{
    AssumeRole, Aws, AwsError, AwsIdentity, EcrLogin, RepositoryTry,
};
use rise_broker::capability::http::{self, Http, HttpError, Outgoing};
use rise_broker::domain::{Clock, Secret};
use rise_broker::registries::ConnectAws;

/// The lifetime of the credentials that the doubles return, in seconds: that of a grant.
const LIFETIME: u64 = 3600;

/// Returns doubles instead of clients. No connection is opened.
pub(super) struct Doubles;

#[async_trait]
impl ConnectAws for Doubles {
    async fn connect(
        &self,
        settings: AwsSettings,
        _: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws> {
        Arc::new(Upstream::new(&settings.registry_host(), Arc::default(), Arc::from("unused")))
    }
}

pub(super) struct Upstream {
    /// The host name of ECR.
    host: String,
    answers: Arc<[ExampleAnswer]>,
    /// What it issues.
    token: Arc<str>,
    /// The id of the grant that the provider is called for.
    grant: String,
    object: Mutex<RegistryObject>,
    repository: Mutex<RepositoryDouble>,
    calls: AtomicUsize,
    /// Whether an answer that it gave says when something ends, and whether one repeats it.
    tells_end: AtomicBool,
    mentions_end: AtomicBool,
    /// What stands in its answers in place of the id of the grant.
    pub renamed: Option<&'static str>,
    /// By how many seconds its credentials outlive the grant.
    pub later: u64,
    /// The call that is never answered, counted from 0.
    pub hangs_at: Option<usize>,
    /// The call whose answer differs from the author's example, counted from 0.
    pub spoilt: Option<(usize, Spoilt)>,
}

/// An answer that the provider's author did not expect.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spoilt {
    Status(u16),
    Body(&'static str),
    /// A body of this many bytes.
    Giant(usize),
    /// The registry does what it is asked for, and its answer does not arrive.
    Lost,
    /// The same, and somebody before it answers with this status.
    Gateway(u16),
}

impl Upstream {
    pub(super) fn new(host: &str, answers: Arc<[ExampleAnswer]>, token: Arc<str>) -> Self {
        let calls = AtomicUsize::new(0);
        Self {
            host: host.to_owned(),
            answers,
            token,
            grant: String::new(),
            object: Mutex::default(),
            repository: Mutex::default(),
            calls,
            tells_end: AtomicBool::default(),
            mentions_end: AtomicBool::default(),
            renamed: None,
            later: 0,
            hangs_at: None,
            spoilt: None,
        }
    }

    /// Returns it for calls with the grant of this id, with the credential that it has made before.
    pub(super) fn for_grant(self, id: String, object: RegistryObject) -> Self {
        Self { grant: id, object: Mutex::new(object), ..self }
    }

    pub(super) fn object(&self) -> RegistryObject {
        self.object.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether an answer that it gave says when something ends.
    pub(super) fn told_end(&self) -> bool {
        self.tells_end.load(Ordering::Relaxed)
    }

    /// Whether an answer that it gave repeats when something ends, or has a JWT.
    pub(super) fn mentioned_end(&self) -> bool {
        self.mentions_end.load(Ordering::Relaxed)
    }

    async fn next_call(&self) -> usize {
        let index = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs_at == Some(index) {
            std::future::pending::<()>().await;
        }
        index
    }

    fn expires_at(&self) -> u64 {
        Clock::system().unix_seconds() + LIFETIME + self.later
    }
}

#[async_trait]
impl Aws for Upstream {
    async fn assume_role(&self, _: AssumeRole) -> Result<Keys, AwsError> {
        self.next_call().await;
        Ok(Keys::new("ASIACONFORMANCE00000", "no-secret", Some("no-token".to_owned()), None, "kit"))
    }

    async fn assume_role_with_web_identity(
        &self,
        request: AssumeRole,
        _: Arc<Secret>,
    ) -> Result<Keys, AwsError> {
        self.assume_role(request).await
    }

    async fn registry_login(&self, _: &AwsIdentity, _: &str) -> Result<EcrLogin, AwsError> {
        self.next_call().await;
        Ok(EcrLogin {
            endpoint: format!("https://{}", self.host),
            username: "AWS".to_owned(),
            password: Secret::new(self.token.to_string()),
            expires_at: self.expires_at() + 39_600,
        })
    }

    async fn public_login(&self, identity: &AwsIdentity) -> Result<EcrLogin, AwsError> {
        self.registry_login(identity, "us-east-1").await
    }

    async fn caller_identity(&self) -> Result<String, AwsError> {
        Ok("arn:aws:iam::123456789012:role/conformance".to_owned())
    }

    async fn own_role(&self) -> Result<(), AwsError> {
        Ok(())
    }

    async fn try_repository(&self, _: &AwsIdentity, _: RepositoryTry) -> Result<(), AwsError> {
        Ok(())
    }

    async fn repository(
        &self,
        _: &RepositoryPlace,
        call: RepositoryCall,
    ) -> Result<RepositoryAnswer, AwsError> {
        self.next_call().await;
        Ok(self.repository.lock().unwrap_or_else(PoisonError::into_inner).answer(call))
    }

    async fn role_policy(
        &self,
        _: &str,
        _: &str,
        _: PolicyCall,
    ) -> Result<Option<String>, AwsError> {
        Ok(None)
    }

    async fn repositories(
        &self,
        _: &RepositoryPlace,
        _: Option<String>,
    ) -> Result<RepositoryPage, AwsError> {
        Ok(RepositoryPage::default())
    }
}

#[async_trait]
impl Http for Upstream {
    async fn send(&self, request: Outgoing) -> Result<http::HttpAnswer, HttpError> {
        let index = self.next_call().await;
        let spoilt = self.spoilt.filter(|(at, _)| *at == index).map(|(_, spoilt)| spoilt);
        let mut answer = self.answer(&request, matches!(spoilt, Some(Spoilt::Status(_))))?;
        if let Some(other) = self.renamed {
            let body = String::from_utf8_lossy(&answer.body);
            let body = body.replace(&self.grant, other);
            let body = body.replace(&self.grant.to_ascii_lowercase(), other);
            answer.body = Zeroizing::new(body.into_bytes());
        }
        match spoilt {
            Some(Spoilt::Status(other) | Spoilt::Gateway(other)) => answer.status = other,
            Some(Spoilt::Body(other)) => answer.body = Zeroizing::new(other.as_bytes().to_vec()),
            Some(Spoilt::Giant(bytes)) => answer.body = Zeroizing::new(vec![b'x'; bytes]),
            Some(Spoilt::Lost) => {
                return Err(HttpError::Unavailable("the answer was lost".to_owned()));
            }
            None => {}
        }
        // The client of a broker stops reading there. What the host does with an answer, such as
        // the search for secrets, counts as time of the call.
        if answer.body.len() > http::LARGEST_BODY {
            return Err(HttpError::body_too_long());
        }
        Ok(answer)
    }
}

impl Upstream {
    /// The answer of the author's examples. With `is_refused` it does nothing.
    fn answer(&self, request: &Outgoing, is_refused: bool) -> Result<http::HttpAnswer, HttpError> {
        let mut object = self.object.lock().unwrap_or_else(PoisonError::into_inner);
        let existence = object.existence(request, &self.grant);
        let before = object.clone();
        let exchange = Exchange {
            request,
            token: &self.token,
            expires_at: self.expires_at(),
            id: &self.grant,
            made: before.request.as_deref(),
        };
        let mut answers = self.answers.iter().filter(|answer| exchange.is_of(answer)).peekable();
        if answers.peek().is_none() {
            let (method, url) = (&request.method, &request.url);
            return Err(HttpError::Unavailable(format!(
                "the examples have no [[answers]] for {method} {} at {}",
                url.path(),
                url.authority()
            )));
        }
        let Some(answer) = answers.find(|answer| answer.is_given(existence)) else {
            return Ok(http::HttpAnswer {
                status: 404,
                headers: HeaderMap::new(),
                body: Zeroizing::default(),
            });
        };
        answer.give_to(&exchange);
        self.tells_end.fetch_or(answer.tells_end(), Ordering::Relaxed);
        self.mentions_end.fetch_or(answer.mentions_end(), Ordering::Relaxed);
        if answer.makes && !is_refused {
            object.make(request, &self.grant);
        } else if answer.ends() && existence == Existence::Made && !is_refused {
            object.end(request, &self.grant);
        }
        let headers = answer.headers.iter().filter_map(|(name, value)| {
            Some((
                HeaderName::try_from(name).ok()?,
                HeaderValue::try_from(exchange.fill(value)).ok()?,
            ))
        });
        let body = Zeroizing::new(exchange.fill(&answer.body).into_bytes());
        Ok(http::HttpAnswer { status: answer.status, headers: headers.collect(), body })
    }
}

/// The deadline of a call. Calls end much earlier unless something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
