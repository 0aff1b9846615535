//! `[signing]`: whether this broker signs tokens, as whom, and with which keys.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use super::node::Problem;
use super::{Config, Written};
use crate::identity::IdentitySettings;
use crate::keys::SigningKind;

/// In a folder of its own, which is watched.
const FILE: &str = "signing/keys.pem";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SigningFile {
    /// The URL under which callers and registries reach this broker: the `iss` of its tokens.
    pub issuer: Option<String>,
    pub algorithm: SigningAlgorithm,
    /// The size of new keys for RS256.
    pub rsa_bits: RsaBits,
    pub key_file: Option<PathBuf>,
    /// How long a token of `/token` is valid.
    #[schemars(range(min = 60, max = 3600))]
    pub token_seconds: u32,
}

/// The algorithm of new keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum SigningAlgorithm {
    // These are no doc comments: with them, the schema could not list the words in an error.
    // The only one that every registry and cloud accepts.
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct RsaBits(
    #[schemars(range(min = 2048, max = 4096), extend("multipleOf" = 1024))] u16,
);

impl Default for SigningFile {
    fn default() -> Self {
        Self {
            issuer: None,
            algorithm: SigningAlgorithm::default(),
            rsa_bits: RsaBits(2048),
            key_file: None,
            token_seconds: 300,
        }
    }
}

/// How this broker signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningConfig {
    /// Without a `/` at its end.
    pub issuer: String,
    /// What a new key is made as.
    pub kind: SigningKind,
    pub key_file: PathBuf,
    /// How long a token of `/token` is valid, in seconds.
    pub token_seconds: u32,
}

/// The settings, if this broker signs.
pub(super) fn config(
    file: SigningFile,
    state: &Path,
    identity: &IdentitySettings,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> Option<SigningConfig> {
    let Some(issuer) = file.issuer else {
        // A table with a wrong value is read as empty.
        let is_wrong = problems.iter().any(|problem| problem.key.starts_with("signing"));
        if written.has("signing") && !is_wrong {
            let message = "missing; name the URL under which callers and registries reach this \
                           broker, such as \"https://broker.example.com\"";
            problems.push(written.problem("/signing/issuer", message));
        }
        return None;
    };
    if let Err(problem) = check(&issuer) {
        let message = format!(
            "`{}` {problem}; write a URL such as \"https://broker.example.com\"",
            issuer.escape_debug()
        );
        problems.push(written.problem("/signing/issuer", message));
        return None;
    }
    let accepts_itself = |accepted: &str| accepted.trim_end_matches('/') == issuer;
    if identity.issuers.iter().any(|accepted| accepts_itself(accepted.keys.issuer())) {
        let message = "is also the `issuer` of one of [[auth.issuers]], so that a token which this \
                       broker signs for a registry would be a caller's token; remove that issuer";
        problems.push(written.problem("/signing/issuer", message));
    }
    Some(SigningConfig {
        issuer,
        kind: match file.algorithm {
            SigningAlgorithm::Rs256 => SigningKind::Rsa(file.rsa_bits.0),
            SigningAlgorithm::Es256 => SigningKind::P256,
            SigningAlgorithm::EdDsa => SigningKind::Ed25519,
        },
        key_file: file.key_file.unwrap_or_else(|| state.join(FILE)),
        token_seconds: file.token_seconds,
    })
}

/// What is allowed and probably not intended.
pub(super) fn warning(config: &Config) -> Option<Problem> {
    let message = plain(&config.signing.as_ref()?.issuer)?;
    Some(config.written.problem("/signing/issuer", message))
}

/// Verifiers compare the text of the issuer, so there is one way to write it.
fn check(issuer: &str) -> Result<(), &'static str> {
    let url = Url::parse(issuer).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err("is not an https:// URL with a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name in it");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a `?` or `#`");
    }
    if issuer.ends_with('/') {
        return Err("ends with `/`");
    }
    if url.as_str().trim_end_matches('/') != issuer {
        return Err("is not written as URLs are");
    }
    Ok(())
}

/// Clouds fetch keys over https only, and a registry's clients send passwords to this URL.
fn plain(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok().filter(|url| url.scheme() == "http")?;
    let is_here = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    (!is_here).then(|| {
        format!(
            "{issuer} is not https: clients send passwords to {issuer}/token unencrypted, and \
             clouds do not fetch keys from there; use https"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_has_one_spelling() {
        for issuer in [
            "https://broker.example.com",
            "https://broker.example.com:8443",
            "https://example.com/broker",
            "http://127.0.0.1:3000",
        ] {
            assert_eq!(check(issuer), Ok(()), "{issuer}");
        }
        for issuer in [
            "broker.example.com",
            "ftp://broker.example.com",
            "https://",
            "https://broker.example.com/",
            "https://Broker.example.com",
            "https://broker.example.com:443",
            "https://broker.example.com?x",
            "https://broker.example.com#x",
            "https://user@broker.example.com",
            "https://broker.example.com/a/../b",
            "https://broker.example.com/a b",
            " https://broker.example.com",
        ] {
            assert!(check(issuer).is_err(), "{issuer}");
        }
        assert!(plain("http://broker.example.com").is_some());
        assert!(plain("http://10.0.0.1").is_some());
        assert!(plain("http://[::1]:3000").is_none());
        assert!(plain("https://broker.example.com").is_none());
    }
}
