//! Tokens that this broker signs: for a registry that trusts it (`registry_token`), and for a cloud
//! that federates with it (`identity_token`).
//!
//! **Invariant (I4):** whoever asks for a token, its issuer, subject, access, times and id are
//! written here, from a grant. A provider chooses the service or the audience, within its ceiling.
//! **Invariant:** a token of one kind is never accepted as the other: only a registry token has
//! `access`, and only an identity token has `project`.

mod identity_token;
mod memory;
mod password;
mod registry_token;

use jiff::Timestamp;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::config::SigningConfig;
use crate::keys::{KeySet, SigningError, SigningKind};
pub use identity_token::IdentityClaims;
pub use memory::SigningMemory;
pub use password::{CoveredScope, InvalidPassword, Password};
pub use registry_token::{RegistryToken, RepositoryAccess};

/// Verifiers whose clocks are behind must not reject a new token.
const CLOCK_LEEWAY: i64 = 60;

/// What signs tokens.
pub struct Signing {
    issuer: String,
    keys: KeySet,
    /// The algorithm of keys that the next rotation makes.
    later: &'static str,
    is_kept: bool,
    token_seconds: u32,
}

/// A token, and when it ends, in seconds since the Unix epoch.
pub struct SignedToken {
    pub token: crate::domain::Secret,
    pub expires_at: u64,
}

impl Signing {
    pub fn new(config: &SigningConfig, keys: KeySet) -> Self {
        let (issuer, token_seconds) = (config.issuer.clone(), config.token_seconds);
        Self { issuer, keys, later: config.kind.algorithm(), is_kept: true, token_seconds }
    }

    /// Signs with keys that are in no file: the first start of the broker makes others.
    fn pretended(config: &SigningConfig, keys: KeySet) -> Self {
        Self { is_kept: false, ..Self::new(config, keys) }
    }

    /// Signs with keys that nobody else has and that are not kept, for the tools of authors. They
    /// are of the kind that every verifier accepts.
    pub fn throwaway(now: Timestamp) -> Option<Self> {
        let kind = SigningKind::Rsa(2048);
        let keys = KeySet::generate(kind, now)?;
        let issuer = "https://broker.example.com".to_owned();
        let later = kind.algorithm();
        Some(Self { issuer, keys, later, is_kept: false, token_seconds: 300 })
    }

    /// The `iss` of every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The certificates of all keys in PEM, as a registry wants them.
    pub fn certificates(&self) -> String {
        self.keys.certificates()
    }

    /// The name of the key that signs.
    pub fn kid(&self) -> &str {
        self.keys.current().key.kid()
    }

    /// The algorithm of the key that signs.
    pub fn algorithm(&self) -> &'static str {
        self.keys.current().key.algorithm()
    }

    /// The algorithms of the keys that will sign after one rotation, and after two.
    pub fn later_algorithms(&self) -> [&'static str; 2] {
        [self.keys.next().key.algorithm(), self.later]
    }

    /// Whether the keys are in a file. Nobody outside can know keys that are not.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// How long a token of `/token` is valid.
    pub fn token_seconds(&self) -> u32 {
        self.token_seconds
    }

    /// The public keys, as a JSON Web Key Set.
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys.keys().map(|(_, key)| key.key.jwk()).collect::<Vec<_>>() })
    }

    /// The document of `OpenID` Connect Discovery by which clouds find the keys.
    pub fn discovery(&self) -> Value {
        let mut algorithms: Vec<&str> =
            self.keys.keys().map(|(_, key)| key.key.algorithm()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/.well-known/jwks.json", self.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
            "claims_supported": [
                "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "project", "registry", "actions"
            ],
        })
    }

    /// Signs claims with the current key, valid for `seconds` from now.
    fn sign(
        &self,
        header: Value,
        mut claims: Value,
        id: Ulid,
        (now, seconds): (Timestamp, u32),
    ) -> Result<SignedToken, SigningError> {
        let now = now.as_second();
        let expires_at = now.saturating_add(seconds.into());
        let own = json!({
            "iss": self.issuer,
            "iat": now,
            "nbf": now.saturating_sub(CLOCK_LEEWAY),
            "exp": expires_at,
            "jti": id.to_string(),
        });
        if let (Some(claims), Value::Object(own)) = (claims.as_object_mut(), own) {
            claims.extend(own);
        }
        let token = self.keys.current().key.sign_jwt(header, &claims)?;
        Ok(SignedToken { token, expires_at: u64::try_from(expires_at).unwrap_or(0) })
    }
}
