//! What a provider says that a registry needs: which requests, and the host of its images.
//!
//! **Invariant:** it counts only for a provider that the operator trusts, and never against what
//! the operator states.

use std::sync::Arc;

use super::build::Stated;
use crate::capability::{Capabilities, printable};
use crate::config::node::Problem;
use crate::domain::Host;
use crate::provider::{NeedsCall, Provider};

/// As many as an operator may write.
const MOST_REQUESTS: usize = 64;

/// What the provider says; nothing if it has no `needs`.
#[derive(Default)]
pub(super) struct Needs {
    pub(super) requests: Option<Vec<String>>,
    pub(super) image_host: Option<Host>,
}

pub(super) async fn ask(
    provider: &Provider,
    capabilities: &Arc<Capabilities>,
    settings: &Arc<str>,
    stated: &Stated<'_>,
) -> Result<Needs, Vec<Problem>> {
    let wrong = |text: String| stated.problem("", format!("the `needs` of its provider {text}"));
    let called = provider.call(NeedsCall { settings: Arc::clone(settings) }, capabilities).await;
    let called = called.map_err(|error| wrong(format!("failed: {error}")))?;
    let Some(needs) = called.value else { return Ok(Needs::default()) };
    let requests = needs.requests;
    if requests.as_ref().is_some_and(|requests| requests.len() > MOST_REQUESTS) {
        return Err(wrong(format!("names more than {MOST_REQUESTS} requests")));
    }
    let texts = requests.iter().flatten().chain(&needs.image_host);
    if texts.into_iter().any(|text| capabilities.reveals_secret(text)) {
        return Err(wrong("has a secret in it".to_owned()));
    }
    let host = needs.image_host.map(|host| {
        host.parse().map_err(|error| {
            wrong(format!("names a host that is none, `{}`: {error}", printable(&host, 128)))
        })
    });
    Ok(Needs { requests, image_host: host.transpose()? })
}
