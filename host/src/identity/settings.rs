//! Which issuers are trusted. These are plain values: `config` fills them in, `issuers.rs` checks
//! them.

use std::path::PathBuf;

use super::doubts;
use super::policy::TokenPolicy;

/// `iss` of the tokens that the broker signs itself.
pub(super) const LOCAL_ISSUER: &str = "urn:rise:local";

#[derive(Clone)]
pub struct IdentitySettings {
    pub(crate) issuers: Vec<IssuerSettings>,
}

#[derive(Clone)]
pub(crate) struct IssuerSettings {
    /// The name by which rules and audit records refer to the issuer.
    pub(crate) name: String,
    /// The name of this deployment. Every token of the issuer must have it in `aud`.
    pub(crate) audience: String,
    pub(crate) policy: TokenPolicy,
    pub(crate) keys: KeyOrigin,
}

/// Where an issuer's keys come from.
#[derive(Clone)]
pub(crate) enum KeyOrigin {
    /// Fetched as a discovery document says.
    Discovery(DiscoverySettings),
    /// Read from a JSON Web Key Set at start.
    JwksFile { issuer: String, path: PathBuf },
    /// The key with which the broker signs tokens itself.
    Local { key_file: PathBuf },
}

/// How the keys of an issuer are fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct DiscoverySettings {
    pub(crate) issuer: String,
    /// The address of the discovery document, if it is not below `issuer`.
    pub(crate) discovery_url: Option<String>,
    /// Further hosts (`host` or `host:port`) that may serve the keys over https. Google serves the
    /// keys of `accounts.google.com` on `www.googleapis.com`.
    pub(crate) jwks_hosts: Vec<String>,
    /// Whether the issuer may have a private address.
    pub(crate) internal: bool,
    /// Certificate authorities in PEM. If set, no others are trusted for this issuer.
    pub(crate) ca_file: Option<PathBuf>,
    /// A file with a token that is sent to the origin of the discovery document and to
    /// `bearer_hosts`. It is read for each request, because Kubernetes renews it.
    pub(crate) bearer_file: Option<PathBuf>,
    /// The part of `jwks_hosts` that the operator stated: a preset gives a token to nobody.
    pub(crate) bearer_hosts: Vec<String>,
    /// An HTTP proxy through which all requests go.
    pub(crate) proxy: Option<String>,
}

impl IdentitySettings {
    /// The files whose content is read together with the settings.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.issuers.iter().filter_map(|issuer| match &issuer.keys {
            KeyOrigin::Discovery(settings) => settings.ca_file.clone(),
            KeyOrigin::JwksFile { path, .. } => Some(path.clone()),
            // Losing it is noticed at the next reload; watching it would reload for its creation.
            KeyOrigin::Local { .. } => None,
        })
    }
}

impl IssuerSettings {
    /// Settings that are allowed but probably not intended. `longest` is `[limits.policy]
    /// max_token_lifetime`.
    pub(crate) fn warnings(&self, longest: Option<u32>) -> Vec<String> {
        let mut warnings = self.policy.warnings(longest);
        warnings.extend(doubts::of_issuer(self.keys.issuer()));
        warnings.extend(doubts::of_audience(&self.audience));
        warnings.extend(doubts::of_keys(&self.keys));
        if let KeyOrigin::Discovery(settings) = &self.keys {
            let document = settings.discovery_url.as_ref().unwrap_or(&settings.issuer);
            if document.starts_with("http://") {
                warnings.push(format!(
                    "its keys are fetched over http ({document}), where others can exchange them; \
                     use https outside development"
                ));
            }
        }
        warnings
    }
}

impl KeyOrigin {
    /// The exact text of `iss` in the issuer's tokens.
    pub(crate) fn issuer(&self) -> &str {
        match self {
            Self::Discovery(settings) => &settings.issuer,
            Self::JwksFile { issuer, .. } => issuer,
            Self::Local { .. } => LOCAL_ISSUER,
        }
    }
}
