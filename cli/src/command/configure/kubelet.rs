//! The kubelet's `CredentialProviderConfig` (`kubelet.config.k8s.io/v1`) for each Kubernetes.
//!
//! | Version | Tokens of the pods' service accounts |
//! |---|---|
//! | 1.26 to 1.32 | none |
//! | 1.33 | with a feature gate, and without `cacheType` |
//! | 1.34 and later | on by default, and `cacheType` is required |

use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::Failure;

/// The kubelet decodes its configuration strictly, so each version needs its own form. Later ones
/// have that of 1.34.
pub(super) const LATEST: u32 = 34;
/// The first with `kubelet.config.k8s.io/v1`.
const EARLIEST: u32 = 26;

/// Returns the 33 of `1.33`, `v1.33` or `1.33.4`.
pub(super) fn minor_version(text: &str) -> Result<u32, String> {
    let rest = text.trim_start_matches('v').strip_prefix("1.");
    let minor = rest.and_then(|rest| rest.split('.').next()?.trim_end_matches('+').parse().ok());
    minor
        .filter(|minor| (EARLIEST..1000).contains(minor))
        .ok_or_else(|| format!("expected a version from 1.{EARLIEST} on, such as 1.33"))
}

/// What else a cluster needs.
pub(super) fn what_next(app: &App, minor: u32) -> String {
    let flags =
        "rise-registry: on each node, put this into a file and docker-credential-rise into \
a folder,
and start the kubelet with
--image-credential-provider-config=FILE and --image-credential-provider-bin-dir=FOLDER.";
    match minor {
        ..33 => format!(
            "{flags}
This kubelet passes on no tokens of pods. Give each node a token of its own, and name its file by
RISE_TOKEN_FILE in `env`."
        ),
        33 => format!(
            "{flags}
Kubernetes 1.33 needs the feature gate KubeletServiceAccountTokenForCredentialProviders.
{}",
            role(app)
        ),
        _ => format!("{flags}\n{}", role(app)),
    }
}

/// Without the role, the API server denies the kubelet the tokens of this audience, and the kubelet
/// does not start the plugin.
fn role(app: &App) -> String {
    let audience = &app.settings.audience.value;
    format!(
        "Allow the nodes to request tokens for the audience:

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

/// Returns JSON, which is also YAML. The kubelet passes on the token of each pod's service account
/// where it can, because a node has no token of its own.
pub(super) fn configuration(app: &App, hosts: &[String], minor: u32) -> Result<String, Failure> {
    let mut environment =
        vec![json!({ "name": "RISE_URL", "value": app.settings.url()?.as_str() })];
    if let Some(said) = &app.settings.ca_file {
        let path = said.value.display().to_string();
        environment.push(json!({ "name": "RISE_CA_FILE", "value": path }));
    }
    let mut provider = json!({
        "name": "docker-credential-rise",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "args": ["kubelet"],
        "env": environment,
        "matchImages": hosts,
        // Each answer states its own cache duration.
        "defaultCacheDuration": "0s",
    });
    if let (Some(attributes), Some(provider)) =
        (token_attributes(app, minor), provider.as_object_mut())
    {
        provider.insert("tokenAttributes".to_owned(), attributes.into());
    }
    let whole: Value = json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    });
    Ok(serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n")
}

fn token_attributes(app: &App, minor: u32) -> Option<Map<String, Value>> {
    if minor < 33 {
        return None;
    }
    let mut attributes = Map::new();
    let mut set = |name: &str, value: Value| attributes.insert(name.to_owned(), value);
    set("serviceAccountTokenAudience", app.settings.audience.value.as_str().into());
    set("requireServiceAccount", true.into());
    if minor > 33 {
        // A rule may check more than the service account, so no pod may get the credential of
        // another.
        set("cacheType", "Token".into());
    }
    Some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_kubernetes_prints_it() {
        for (text, expected) in [
            ("1.33", Some(33)),
            ("v1.34.2", Some(34)),
            ("1.31.0-eks-1234", Some(31)),
            ("1.33+", Some(33)),
            ("1.25", None),
            ("2.0", None),
            ("1.", None),
            ("", None),
        ] {
            assert_eq!(minor_version(text).ok(), expected, "{text}");
        }
    }
}
