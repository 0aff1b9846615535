//! Outbound clients of registries, which a reload leaves as they are: with them their connections,
//! the keys that they cache, and the logins that a provider keeps.
//!
//! **Invariant:** an HTTP client belongs to one registry, because another registry's settings judge
//! other addresses.

use std::sync::Arc;

use async_trait::async_trait;

use super::Epoch;
use crate::capability::aws::Aws;
use crate::capability::aws::denials::SessionDenials;
use crate::capability::aws::sdk::{RetryBudget, SdkAws};
use crate::capability::aws::settings::AwsSettings;
use crate::capability::http::client::{HttpConnections, ReqwestHttp};
use crate::capability::kept::Kept;
use crate::domain::{Reach, RegistryName, Secret};
use crate::reachable;
use crate::survivors::Survivors;

/// Opens AWS for one registry; tests pass one that opens a double.
#[async_trait]
pub trait ConnectAws: Send + Sync {
    async fn connect(
        &self,
        settings: AwsSettings,
        keys: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws>;
}

/// Opens AWS with the official SDK.
#[derive(Default)]
pub struct Sdk {
    /// By account and region, which AWS throttles as a whole.
    budgets: Survivors<(String, String), RetryBudget>,
}

#[async_trait]
impl ConnectAws for Sdk {
    async fn connect(
        &self,
        settings: AwsSettings,
        keys: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws> {
        let keys = keys.as_ref().map(|(id, secret)| (&**id, &**secret));
        let account = (settings.account_id.clone(), settings.region.clone());
        let budget = self.budgets.find_or_make(account, |_| RetryBudget::default());
        Arc::new(SdkAws::connect(&settings, keys, budget).await)
    }
}

/// Every client that a generation uses.
pub struct Clients {
    connect_aws: Arc<dyn ConnectAws>,
    aws: Survivors<AwsClientSource, dyn Aws>,
    http: Survivors<HttpClientSource, ReqwestHttp>,
    kept: Survivors<(RegistryName, Epoch), Kept>,
    /// By the ARN of the role.
    denials: Survivors<String, SessionDenials>,
}

/// What an AWS client is made from.
struct AwsClientSource {
    settings: AwsSettings,
    keys: Option<(Arc<Secret>, Arc<Secret>)>,
}

impl PartialEq for AwsClientSource {
    fn eq(&self, other: &Self) -> bool {
        let are_same_keys = match (&self.keys, &other.keys) {
            (None, None) => true,
            (Some((id, secret)), Some((other_id, other_secret))) => {
                id.expose() == other_id.expose() && secret.expose() == other_secret.expose()
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        self.settings == other.settings && are_same_keys
    }
}

/// What an HTTP client is made from.
#[derive(PartialEq, Eq)]
pub(super) struct HttpClientSource {
    pub(super) registry: RegistryName,
    pub(super) reach: Reach,
    pub(super) has_plain: bool,
    pub(super) proxy: Option<String>,
    /// The only authorities of the endpoints' certificates, in PEM.
    pub(super) authorities: Option<Vec<u8>>,
}

impl Clients {
    pub fn new(connect_aws: Arc<dyn ConnectAws>) -> Self {
        Self {
            connect_aws,
            aws: Survivors::default(),
            http: Survivors::default(),
            kept: Survivors::default(),
            denials: Survivors::default(),
        }
    }

    pub(super) async fn aws(
        &self,
        settings: AwsSettings,
        keys: Option<(Arc<Secret>, Arc<Secret>)>,
    ) -> Arc<dyn Aws> {
        let identity = AwsClientSource { settings: settings.clone(), keys: keys.clone() };
        if let Some(client) = self.aws.find(&identity) {
            return client;
        }
        let client = self.connect_aws.connect(settings, keys).await;
        self.aws.remember(identity, &client);
        client
    }

    pub(super) fn http(&self, source: HttpClientSource) -> reqwest::Result<Arc<ReqwestHttp>> {
        if let Some(client) = self.http.find(&source) {
            return Ok(client);
        }
        let client = Arc::new(ReqwestHttp::new(HttpConnections {
            reach: source.reach,
            has_plain: source.has_plain,
            proxy: source.proxy.as_deref().and_then(reachable::proxy),
            authorities: source.authorities.as_deref(),
        })?);
        self.http.remember(source, &client);
        Ok(client)
    }

    /// The sessions of a role that are denied. Registries may share the role.
    pub(super) fn denials(&self, role_arn: &str) -> Arc<SessionDenials> {
        self.denials.find_or_make(role_arn.to_owned(), |_| SessionDenials::default())
    }

    /// What the providers of a registry keep between calls, in this epoch.
    pub(super) fn kept(&self, registry: &RegistryName, epoch: Epoch) -> Arc<Kept> {
        self.kept.find_or_make((registry.clone(), epoch), |_| Kept::default())
    }
}
