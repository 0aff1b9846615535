//! What lies behind the capabilities while a provider is checked: AWS and a registry that do as told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials as Keys;

use super::examples::Answer;
use crate::capability::aws::ceiling::AwsSettings;
use crate::capability::aws::{AssumeRole, Aws, AwsError, Identity, Login};
use crate::domain::{Clock, Secret};
use crate::registries::ConnectAws;

/// How long what is handed out lasts.
const LIFETIME: u64 = 3600;

/// Opens no connection: [`Upstream`] takes the place of what it gives.
pub(super) struct Doubles;

#[async_trait]
impl ConnectAws for Doubles {
    async fn connect(
        &self,
        settings: AwsSettings,
        _: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws> {
        Arc::new(Upstream::new(&settings.registry_host(), Arc::default()))
    }
}

pub(super) struct Upstream {
    /// ECR's.
    host: String,
    answers: Arc<[Answer]>,
    calls: AtomicUsize,
    /// The call, counted from 0, that is never answered.
    pub hangs_at: Option<usize>,
    /// The call whose answer is not what the author expected.
    pub spoilt: Option<(usize, Spoilt)>,
}

/// What a registry may answer on a bad day.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spoilt {
    Status(u16),
    Body(&'static str),
    /// Of so many bytes.
    Giant(usize),
}

impl Upstream {
    pub(super) fn new(host: &str, answers: Arc<[Answer]>) -> Self {
        let calls = AtomicUsize::new(0);
        Self { host: host.to_owned(), answers, calls, hangs_at: None, spoilt: None }
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn turn(&self) -> usize {
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
        self.turn().await;
        Ok(Keys::new("ASIACONFORMANCE00000", "no-secret", Some("no-token".to_owned()), None, "kit"))
    }

    async fn registry_login(&self, _: &Identity, _: &str) -> Result<Login, AwsError> {
        self.turn().await;
        Ok(Login {
            endpoint: format!("https://{}", self.host),
            username: "AWS".to_owned(),
            password: Secret::new("issued-by-the-conformance-kit".to_owned()),
            expires_at: Self::expires_at() + 39_600,
        })
    }

    async fn caller_identity(&self) -> Result<String, AwsError> {
        Ok("arn:aws:iam::123456789012:role/conformance".to_owned())
    }

    async fn own_role(&self) -> Result<(), AwsError> {
        Ok(())
    }
}

/// Longer than any call of the kit takes, unless something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
