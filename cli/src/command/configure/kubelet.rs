//! The kubelet's `CredentialProviderConfig` (`kubelet.config.k8s.io/v1` with service-account
//! tokens, Kubernetes 1.34).

use serde_json::{Value, json};

use crate::app::App;
use crate::failure::Failure;

/// What else a cluster needs. Without the role, the API server denies the kubelet the tokens of
/// this audience, and the kubelet does not start the plugin.
pub(super) fn what_next(app: &App) -> String {
    let audience = &app.settings.audience.value;
    format!(
        "rise-registry: on each node, put this into a file and docker-credential-rise into a folder,
and start the kubelet with
--image-credential-provider-config=FILE and --image-credential-provider-bin-dir=FOLDER.
Kubernetes 1.33 needs the feature gate KubeletServiceAccountTokenForCredentialProviders, and there
`cacheType` must be removed. Allow the nodes to request tokens for the audience:

apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{ name: rise-registry-audience }}
rules:
  - apiGroups: [\"\"]
    resources: [{audience:?}]
    verbs: [request-serviceaccounts-token-audience]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{ name: rise-registry-audience }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: rise-registry-audience }}
subjects: [{{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: \"system:nodes\" }}]"
    )
}

/// Returns JSON, which is also YAML. The kubelet passes on the token of each pod's service account,
/// because a node has no token of its own.
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
        // Each answer states its own cache duration.
        "defaultCacheDuration": "0s",
        "tokenAttributes": {
            "serviceAccountTokenAudience": app.settings.audience.value,
            // A rule may check more than the service account, so no pod may get the credential of
            // another.
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
