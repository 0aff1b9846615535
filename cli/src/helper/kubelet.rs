//! The kubelet's credential provider protocol, `credentialprovider.kubelet.k8s.io/v1` (Kubernetes
//! 1.26 and later; with service-account tokens, 1.33 and later).
//!
//! The answer's cache type is `Image`, because a credential is for one repository: `Registry` would
//! give one project's credential to all pods of the node. Nothing is written to disk, because the
//! kubelet keeps answers in memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::app::App;
use crate::broker::Wanted;
use crate::cache::Kept;
use crate::credentials;
use crate::failure::{Failure, shown};
use crate::names;
use crate::token::TokenSource;
use rise_secret::Secret;

const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// Unknown members are ignored, so that later kubelets can add some.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KubeletRequest {
    api_version: String,
    kind: String,
    image: String,
    #[serde(default)]
    service_account_token: Option<Secret>,
}

/// The kubelet rejects answers with unknown members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KubeletResponse<'a> {
    kind: &'static str,
    api_version: &'static str,
    cache_key_type: &'static str,
    /// A duration in Go's notation.
    cache_duration: String,
    auth: BTreeMap<&'a str, AuthConfig<'a>>,
}

#[derive(Serialize)]
struct AuthConfig<'a> {
    username: &'a str,
    password: &'a str,
}

pub(super) fn answer(app: &App, request: &str) -> Result<Zeroizing<String>, Failure> {
    let wrong = |what: &str| {
        Failure::Settings(format!(
            "stdin does not contain a CredentialProviderRequest ({what}): set `apiVersion: \
             {API_VERSION}` in the CredentialProviderConfig"
        ))
    };
    // The error of serde_json can quote its input, so it is dropped.
    let request: KubeletRequest =
        serde_json::from_str(request).map_err(|_| wrong("its JSON has another form"))?;
    if request.api_version != API_VERSION || request.kind != "CredentialProviderRequest" {
        return Err(wrong(&format!(
            "it is {} {}",
            shown(&request.api_version),
            shown(&request.kind)
        )));
    }
    if !names::is_image(&request.image) {
        return Err(wrong("its image is not an image reference"));
    }
    let token = request.service_account_token.filter(|token| !token.expose().is_empty());
    let source = match token {
        Some(text) => TokenSource::ServiceAccount { text },
        None => app.source()?,
    };
    let wanted = Wanted {
        image: Some(request.image.clone()),
        actions: vec!["pull".to_owned()],
        ..Wanted::default()
    };
    let kept = credentials::ask(app, source, &wanted, app.patience)?;
    response(&kept, &request.image, (app.now)())
}

/// The repository that the broker answered for, with the host as the kubelet wrote it: it looks the
/// login up by that.
fn as_asked(image: &str, answered: &str) -> Option<String> {
    let ((asked_host, asked), (host, repository)) =
        (image.split_once('/')?, answered.split_once('/')?);
    let below = asked.strip_prefix(repository)?;
    let is_within = below.is_empty() || below.starts_with(['/', ':', '@']);
    (is_within && names::is_same_registry(asked_host, host))
        .then(|| format!("{asked_host}/{repository}"))
}

fn response(kept: &Kept, image: &str, now: u64) -> Result<Zeroizing<String>, Failure> {
    let credentials = &kept.credentials;
    let Some(repository) = as_asked(image, &credentials.image) else {
        return Err(Failure::Untrusted(format!(
            "the broker answered for {} when asked for {}: check RISE_URL",
            shown(&credentials.image),
            shown(image)
        )));
    };
    let (username, password) = match credentials.login() {
        Some((username, password)) if username != "<token>" => (username, password.expose()),
        _ => {
            return Err(Failure::Settings(format!(
                "registry {} issues no user name and password, and the kubelet accepts nothing \
                 else: use an imagePullSecret",
                credentials.registry
            )));
        }
    };
    let cache_duration = format!("{}s", kept.half_life().saturating_sub(now));
    let response = KubeletResponse {
        kind: "CredentialProviderResponse",
        api_version: API_VERSION,
        cache_key_type: "Image",
        cache_duration,
        auth: BTreeMap::from([(repository.as_str(), AuthConfig { username, password })]),
    };
    Ok(Zeroizing::new(serde_json::to_string(&response).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_has_the_host_as_it_was_asked() {
        for (image, answered, key) in [
            ("r.example.com/rise/a:1", "r.example.com/rise/a", Some("r.example.com/rise/a")),
            ("R.Example.com/rise/a@sha256:0", "r.example.com/rise/a", Some("R.Example.com/rise/a")),
            ("index.docker.io/acme/a", "docker.io/acme/a", Some("index.docker.io/acme/a")),
            ("r.example.com/rise/ab:1", "r.example.com/rise/a", None),
            ("r.example.com/Rise/a", "r.example.com/rise/a", None),
            ("other.example.com/rise/a", "r.example.com/rise/a", None),
            ("r.example.com", "r.example.com/rise/a", None),
        ] {
            assert_eq!(as_asked(image, answered).as_deref(), key, "{image} {answered}");
        }
    }
}
