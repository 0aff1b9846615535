//! The upstreams of a provider that is checked: doubles of AWS and of a registry.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials as Keys;
use reqwest::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::answers::{ExampleAnswer, Exchange};
use super::repository::RepositoryDouble;
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

/// The lifetime of the credentials that the doubles return, in seconds.
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
    repository: Mutex<RepositoryDouble>,
    calls: AtomicUsize,
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
}

impl Upstream {
    pub(super) fn new(host: &str, answers: Arc<[ExampleAnswer]>, token: Arc<str>) -> Self {
        let calls = AtomicUsize::new(0);
        Self {
            host: host.to_owned(),
            answers,
            token,
            repository: Mutex::default(),
            calls,
            hangs_at: None,
            spoilt: None,
        }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn next_call(&self) -> usize {
        let index = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs_at == Some(index) {
            std::future::pending::<()>().await;
        }
        index
    }

    fn expires_at() -> u64 {
        Clock::system().unix_seconds() + LIFETIME
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
            expires_at: Self::expires_at() + 39_600,
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
        let exchange = Exchange::new(&request, &self.token, Self::expires_at());
        let answered = self.answers.iter().find_map(|answer| Some((answer, exchange.of(answer)?)));
        let Some((answer, exchange)) = answered else {
            let (method, url) = (&request.method, &request.url);
            return Err(HttpError::Unavailable(format!(
                "the examples have no [[answers]] for {method} {} at {}",
                url.path(),
                url.authority()
            )));
        };
        let (mut status, mut body) = (answer.status, exchange.fill(&answer.body).into_bytes());
        match self.spoilt {
            Some((at, Spoilt::Status(other))) if at == index => status = other,
            Some((at, Spoilt::Body(other))) if at == index => body = other.as_bytes().to_vec(),
            Some((at, Spoilt::Giant(bytes))) if at == index => body = vec![b'x'; bytes],
            Some(_) | None => {}
        }
        let headers = answer.headers.iter().filter_map(|(name, value)| {
            Some((
                HeaderName::try_from(name).ok()?,
                HeaderValue::try_from(exchange.fill(value)).ok()?,
            ))
        });
        Ok(http::HttpAnswer { status, headers: headers.collect(), body: Zeroizing::new(body) })
    }
}

/// The deadline of a call. Calls end much earlier unless something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
