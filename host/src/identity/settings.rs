//! Which issuers are trusted, as plain values: `config` fills them in, `issuers.rs` checks them.

use std::path::PathBuf;

use super::policy::TokenPolicy;

/// `iss` of the tokens that the broker signs itself.
pub(super) const LOCAL_ISSUER: &str = "urn:rise:local";

#[derive(Clone)]
pub struct IdentitySettings {
    /// What `aud` of every token must hold; this deployment's own.
    pub audience: String,
    pub issuers: Vec<IssuerSettings>,
}

#[derive(Clone)]
pub struct IssuerSettings {
    /// How rules and records call it.
    pub name: String,
    pub policy: TokenPolicy,
    pub keys: KeyOrigin,
}

/// Where an issuer's keys come from.
#[derive(Clone)]
pub enum KeyOrigin {
    /// `{issuer}/.well-known/openid-configuration`.
    Discovery(DiscoverySettings),
    /// A JSON Web Key Set, read at start.
    JwksFile { issuer: String, path: PathBuf },
    /// The broker's own issuer.
    Local { key_file: PathBuf },
}

/// How an issuer is asked for its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiscoverySettings {
    pub issuer: String,
    /// Where keys may lie too (`host` or `host:port`), over https: `accounts.google.com` has its own on
    /// `www.googleapis.com`.
    pub jwks_hosts: Vec<String>,
    /// Whether it is inside: private addresses are asked only then.
    pub internal: bool,
    /// PEM. Only these authorities are trusted then.
    pub ca_file: Option<PathBuf>,
    /// A token to show to the issuer's own origin, read anew for each request: Kubernetes renews it.
    pub bearer_file: Option<PathBuf>,
}

impl IssuerSettings {
    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        self.policy.warnings()
    }
}

impl KeyOrigin {
    /// The exact text of `iss` in its tokens.
    pub fn issuer(&self) -> &str {
        match self {
            Self::Discovery(settings) => &settings.issuer,
            Self::JwksFile { issuer, .. } => issuer,
            Self::Local { .. } => LOCAL_ISSUER,
        }
    }
}
