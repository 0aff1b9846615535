//! The kubelet's `CredentialProviderConfig` (`kubelet.config.k8s.io/v1`, with service-account tokens: Kubernetes 1.34).

use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Failure;

pub(super) const WHAT_NEXT: &str = "\
rise-registry: put this into a file on each node and docker-credential-rise into a folder, and start the kubelet with
--image-credential-provider-config=FILE and --image-credential-provider-bin-dir=FOLDER";

/// In JSON, which is YAML. Each pod shows its own service account's token; a node has none of its own to show.
pub(super) fn configuration(app: &App, hosts: &[String]) -> Result<String, Failure> {
    let mut environment =
        vec![json!({ "name": "RISE_URL", "value": app.settings.url()?.as_str() })];
    if let Some(said) = &app.settings.ca_file {
        let path = said.value.display().to_string();
        environment.push(json!({ "name": "RISE_CA_FILE", "value": path }));
    }
    let provider = json!({
        "name": "docker-credential-rise",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "args": ["kubelet"],
        "env": environment,
        "matchImages": hosts,
        // Each answer says how long it may be kept.
        "defaultCacheDuration": "0s",
        "tokenAttributes": {
            "serviceAccountTokenAudience": app.settings.audience.value,
            // A rule may ask for more than the service account: no pod gets what another one was given.
            "cacheType": "Token",
            "requireServiceAccount": true,
        },
    });
    let whole: Value = json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    });
    Ok(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n")
}
