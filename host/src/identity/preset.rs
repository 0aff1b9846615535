//! Settings of well-known issuers: `preset = "github-actions"` fills in what the settings of an
//! issuer leave out.
//!
//! To add one: a variant, its arm in each function here, a row in `docs/settings.md`, a token in
//! `tests/cases/tokens`.

use std::ops::RangeInclusive;

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
    /// Web identity tokens that AWS STS issues to the roles of one account.
    Aws,
    /// Microsoft Entra ID: workload, managed and user identities of one tenant.
    Azure,
    Circleci,
    Bitbucket,
    /// JWT-SVIDs, as SPIRE issues them.
    Spiffe,
    /// Any other issuer. Fills in nothing.
    Generic,
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

impl Preset {
    /// The `iss` of the service, if it is the same for most users.
    pub(crate) fn issuer(self) -> Option<&'static str> {
        match self {
            Self::GithubActions => Some("https://token.actions.githubusercontent.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Buildkite => Some("https://agent.buildkite.com"),
            Self::Google => Some("https://accounts.google.com"),
            Self::Kubernetes
            | Self::Aws
            | Self::Azure
            | Self::Circleci
            | Self::Bitbucket
            | Self::Spiffe
            | Self::Generic => None,
        }
    }

    pub(crate) fn jwks_hosts(self) -> Vec<String> {
        match self {
            Self::Google => vec!["www.googleapis.com".to_owned()],
            // The document of `sts.windows.net` (tokens of version 1) names keys there.
            Self::Azure => vec!["login.microsoftonline.com".to_owned()],
            Self::GithubActions
            | Self::Gitlab
            | Self::Kubernetes
            | Self::Buildkite
            | Self::Aws
            | Self::Circleci
            | Self::Bitbucket
            | Self::Spiffe
            | Self::Generic => vec![],
        }
    }

    pub(crate) fn policy(self) -> TokenPolicy {
        let rs256 = [Algorithm::Rs256];
        match self {
            Self::GithubActions => {
                policy(&rs256, 300..=HOUR, &["repository_id", "repository_owner_id", "event_name"])
            }
            // Their tokens live as long as the job may run.
            Self::Gitlab => {
                policy(&rs256, 300..=DAY, &["project_id", "namespace_id", "ref_protected"])
            }
            // `expirationSeconds` of the volume is at least ten minutes, and the user's choice.
            Self::Kubernetes => policy(
                &rs256,
                600..=7 * DAY,
                &[
                    "/kubernetes.io/namespace",
                    "/kubernetes.io/serviceaccount/name",
                    "/kubernetes.io/serviceaccount/uid",
                ],
            ),
            // `buildkite-agent oidc request-token --lifetime`.
            Self::Buildkite => policy(&rs256, 1..=DAY, &["organization_slug", "pipeline_slug"]),
            Self::Google => policy(&rs256, HOUR..=HOUR, &["azp"]),
            // The caller chooses the algorithm; each has a key of its own.
            Self::Aws => TokenPolicy {
                mixed_algorithms: true,
                ..policy(
                    &[Algorithm::Es384, Algorithm::Rs256],
                    60..=HOUR,
                    &["/https:~1~1sts.amazonaws.com~1/aws_account"],
                )
            },
            // A day for managed identities, 28 hours for clients with continuous access evaluation.
            Self::Azure => policy(&rs256, HOUR..=28 * HOUR, &["tid", "oid"]),
            Self::Circleci => policy(&rs256, HOUR..=HOUR, &["oidc.circleci.com/project-id"]),
            Self::Bitbucket => policy(&rs256, 1..=DAY, &["repositoryUuid", "workspaceUuid"]),
            Self::Spiffe => TokenPolicy {
                token_types: ["JWT", "JOSE"].map(str::to_owned).to_vec(),
                ..policy(&[Algorithm::Es256], 1..=DAY, &[])
            },
            Self::Generic => TokenPolicy::default(),
        }
    }
}

/// Accepts the longest of the usual lifetimes.
fn policy(algorithms: &[Algorithm], usual: RangeInclusive<i64>, required: &[&str]) -> TokenPolicy {
    TokenPolicy {
        algorithms: algorithms.to_vec(),
        token_types: vec!["JWT".to_owned()],
        max_lifetime: *usual.end(),
        required_claims: required.iter().filter_map(|name| ClaimPath::parse(name).ok()).collect(),
        usual_lifetimes: usual,
        ..TokenPolicy::default()
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
            (Preset::Aws, 1),
            (Preset::Azure, 2),
            (Preset::Circleci, 1),
            (Preset::Bitbucket, 2),
            (Preset::Spiffe, 0),
            (Preset::Generic, 0),
        ] {
            let policy = preset.policy();
            assert_eq!(policy.problems(), [] as [String; 0], "{preset:?}");
            assert_eq!(policy.warnings(None), [] as [String; 0], "{preset:?}");
            assert_eq!(policy.required_claims.len(), required, "{preset:?}");
        }
    }
}
