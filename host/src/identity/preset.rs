//! Settings of well-known issuers: `preset = "github-actions"` fills in what the settings of an
//! issuer leave out.
//!
//! To add one: a variant, its arm in each function here, a row in `docs/settings.md`.

use super::algorithm::Algorithm;
use super::policy::TokenPolicy;
use crate::domain::ClaimPath;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    GithubActions,
    Gitlab,
    Kubernetes,
    Buildkite,
    Google,
    /// Any other issuer. Fills in nothing.
    Generic,
}

impl Preset {
    /// The `iss` of the service, if it is the same for most users.
    pub(crate) fn issuer(self) -> Option<&'static str> {
        match self {
            Self::GithubActions => Some("https://token.actions.githubusercontent.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Buildkite => Some("https://agent.buildkite.com"),
            Self::Google => Some("https://accounts.google.com"),
            Self::Kubernetes | Self::Generic => None,
        }
    }

    pub(crate) fn jwks_hosts(self) -> Vec<String> {
        match self {
            Self::Google => vec!["www.googleapis.com".to_owned()],
            Self::GithubActions
            | Self::Gitlab
            | Self::Kubernetes
            | Self::Buildkite
            | Self::Generic => vec![],
        }
    }

    pub(crate) fn policy(self) -> TokenPolicy {
        const HOUR: i64 = 3600;
        let policy = |max_lifetime, token_types: &[&str], required: &[&str]| TokenPolicy {
            algorithms: vec![Algorithm::Rs256],
            token_types: token_types.iter().map(|typ| (*typ).to_owned()).collect(),
            max_lifetime,
            required_claims: required
                .iter()
                .filter_map(|name| ClaimPath::parse(name).ok())
                .collect(),
            ..TokenPolicy::default()
        };
        match self {
            Self::GithubActions => {
                policy(HOUR, &["JWT"], &["repository_id", "repository_owner_id", "event_name"])
            }
            Self::Gitlab => {
                policy(HOUR, &["JWT"], &["project_id", "namespace_id", "ref_protected"])
            }
            Self::Kubernetes => policy(
                24 * HOUR,
                &["JWT"],
                &[
                    "/kubernetes.io/namespace",
                    "/kubernetes.io/serviceaccount/name",
                    "/kubernetes.io/serviceaccount/uid",
                ],
            ),
            Self::Buildkite => policy(HOUR, &["JWT"], &["organization_slug", "pipeline_slug"]),
            Self::Google => policy(HOUR, &["JWT"], &["azp"]),
            Self::Generic => TokenPolicy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_right_by_itself() {
        for (preset, required) in [
            (Preset::GithubActions, 3),
            (Preset::Gitlab, 3),
            (Preset::Kubernetes, 3),
            (Preset::Buildkite, 2),
            (Preset::Google, 1),
            (Preset::Generic, 0),
        ] {
            let policy = preset.policy();
            assert_eq!(policy.problems(), [] as [String; 0], "{preset:?}");
            assert_eq!(policy.required_claims.len(), required, "{preset:?}");
        }
    }
}
