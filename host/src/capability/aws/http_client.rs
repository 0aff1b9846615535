//! The HTTP client of the AWS SDK: one for all calls of a registry, with a limit on each answer.
//!
//! By default the SDK makes a client with connections of its own for each service client, and reads
//! an answer of any length into memory.

use std::net::SocketAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

use crate::names;

/// Protects against an endpoint that never stops sending. The longest valid answers, which are
/// temporary keys and ECR's token, are a few KiB.
const LARGEST_ANSWER: usize = 64 << 10;

/// The SDK's default client (rustls, proxies from the environment), but shared and limited.
pub(super) fn shared() -> SharedHttpClient {
    let client = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build_with_resolver(NameLookup)
    });
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(LimitedClient(client.http_connector(settings, components)))
    })
}

/// The SDK's own look-up takes a thread for each connection that is tried.
#[derive(Clone, Debug)]
struct NameLookup;

impl ResolveDns for NameLookup {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = names::look_up(name).await.map_err(ResolveDnsError::new)?;
            Ok(found.iter().map(SocketAddr::ip).collect())
        })
    }
}

#[derive(Debug)]
struct LimitedClient(SharedHttpConnector);

impl HttpConnector for LimitedClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let bounded = |body| SdkBody::from_body_1_x(Limited::new(body, LARGEST_ANSWER));
            answer.await.map(|response| response.map(bounded))
        })
    }
}
