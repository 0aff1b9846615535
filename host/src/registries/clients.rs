//! Outbound clients of registries, which a reload leaves as they are: with them their connections,
//! and the keys that they cache.
//!
//! **Invariant:** an HTTP client belongs to one registry, because another registry's settings judge
//! other addresses.

use std::sync::Arc;

use async_trait::async_trait;

use crate::capability::aws::Aws;
use crate::capability::aws::ceiling::AwsSettings;
use crate::capability::aws::sdk::{RetryBudget, SdkAws};
use crate::capability::http::client::ReqwestHttp;
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
struct HttpClientSource {
    registry: RegistryName,
    reach: Reach,
    has_plain: bool,
    proxy: Option<String>,
}

impl Clients {
    pub fn new(connect_aws: Arc<dyn ConnectAws>) -> Self {
        Self { connect_aws, aws: Survivors::default(), http: Survivors::default() }
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

    pub(super) fn http(
        &self,
        registry: &RegistryName,
        reach: Reach,
        has_plain: bool,
        proxy: Option<&str>,
    ) -> reqwest::Result<Arc<ReqwestHttp>> {
        let (registry, proxy) = (registry.clone(), proxy.map(str::to_owned));
        let bounds = HttpClientSource { registry, reach, has_plain, proxy };
        if let Some(client) = self.http.find(&bounds) {
            return Ok(client);
        }
        let client = Arc::new(ReqwestHttp::new(
            reach,
            has_plain,
            bounds.proxy.as_deref().and_then(reachable::proxy),
        )?);
        self.http.remember(bounds, &client);
        Ok(client)
    }
}
