//! The built-in issuer `local`, for laptops and small installations: it signs tokens with a key
//! file.
//!
//! **Invariant:** anyone who can read the key file can mint a token for any subject that the rules
//! for `local` accept. The file is created for its owner alone, and rejected if others can read it.

use std::path::Path;

use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::{SignedDuration, Timestamp};
use ulid::Ulid;

use super::bounds::{LONGEST_LIFETIME, LONGEST_SUBJECT, LONGEST_TOKEN, is_subject};
use super::json;
use super::jwks::{InvalidKeySet, KeySet};
use super::jwt::PAYLOAD;
use super::settings::LOCAL_ISSUER;
use crate::domain::{Claims, Secret};
use crate::keys::{KeyFileError, SigningKey, ed25519};

/// Claims that the issuer sets itself.
const RESERVED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// Signs tokens with an Ed25519 key.
pub struct LocalIssuer {
    key: SigningKey,
}

/// The content of a token.
pub struct TokenRequest {
    pub subject: String,
    pub audience: String,
    pub claims: Claims,
    /// In whole seconds, at most a day.
    pub lifetime: SignedDuration,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("the issuer sets claim `{0}` itself: leave it out")]
    Reserved(String),
    #[error("subject and audience must be printable text of 1 to {LONGEST_SUBJECT} bytes each")]
    Names,
    #[error("a token's lifetime must be 1 second to {} hours", LONGEST_LIFETIME / 3600)]
    Lifetime,
    #[error("the claims are too many, too deep or too long for a token of {LONGEST_TOKEN} bytes")]
    TooLarge,
    #[error("the token could not be signed")]
    Signing,
}

impl LocalIssuer {
    /// Reads the key, or creates it if there is none. Processes that do so at the same time all get
    /// the same key.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyFileError> {
        ed25519::open_or_create(path).map(Self::new)
    }

    /// Reads the key. If there is none, checks that it can be created, and uses one that is not
    /// kept.
    pub(super) fn open_or_pretend(path: &Path) -> Result<Self, KeyFileError> {
        ed25519::open_or_pretend(path).map(Self::new)
    }

    /// Reads the key, which must exist.
    pub(super) fn open(path: &Path) -> Result<Self, KeyFileError> {
        let gone = || KeyFileError::Gone { path: path.to_owned() };
        ed25519::open(path)?.ok_or_else(gone).map(Self::new)
    }

    fn new(key: Ed25519KeyPair) -> Self {
        Self { key: SigningKey::ed25519(key) }
    }

    /// Signs a token that [`super::Identity::verify`] accepts until it expires.
    pub fn mint(&self, request: TokenRequest, now: Timestamp) -> Result<Secret, MintError> {
        let payload = payload(request, now)?;
        let token = self.key.sign_jwt(serde_json::json!({}), &payload);
        let token = token.map_err(|_| MintError::Signing)?;
        if token.expose().len() > LONGEST_TOKEN { Err(MintError::TooLarge) } else { Ok(token) }
    }

    /// The thumbprint of the public key (RFC 7638), which tokens have as `kid`.
    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    /// The public key.
    pub fn key_set(&self) -> Result<KeySet, InvalidKeySet> {
        KeySet::parse(self.jwks().to_string().as_bytes())
    }

    /// The public key as a JSON Web Key Set, for another broker's `jwks_file`.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [self.key.jwk()] })
    }
}

fn payload(request: TokenRequest, now: Timestamp) -> Result<serde_json::Value, MintError> {
    let TokenRequest { subject, audience, mut claims, lifetime } = request;
    if let Some(name) = RESERVED.iter().find(|name| claims.contains_key(**name)) {
        return Err(MintError::Reserved((*name).to_owned()));
    }
    if !is_subject(&subject) || !is_subject(&audience) {
        return Err(MintError::Names);
    }
    if !(1..=LONGEST_LIFETIME).contains(&lifetime.as_secs()) {
        return Err(MintError::Lifetime);
    }
    let issued = now.as_second();
    let expires = issued.checked_add(lifetime.as_secs()).ok_or(MintError::Lifetime)?;
    let written: [(&str, serde_json::Value); 6] = [
        ("iss", LOCAL_ISSUER.into()),
        ("sub", subject.into()),
        ("aud", audience.into()),
        ("iat", issued.into()),
        ("exp", expires.into()),
        ("jti", token_id(now)?.to_string().into()),
    ];
    claims.extend(written.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let payload = serde_json::Value::Object(claims);
    // Parsed as a verifier would: a token that nobody accepts must fail here.
    json::object(payload.to_string().as_bytes(), PAYLOAD).map_err(|_| MintError::TooLarge)?;
    Ok(payload)
}

fn token_id(now: Timestamp) -> Result<Ulid, MintError> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| MintError::Signing)?;
    let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ok(Ulid::from_parts(milliseconds, u128::from_ne_bytes(random)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::jwt::Unverified;

    fn request(claims: &serde_json::Value) -> TokenRequest {
        TokenRequest {
            subject: "laptop".to_owned(),
            audience: "us".to_owned(),
            claims: claims.as_object().unwrap().clone(),
            lifetime: SignedDuration::from_secs(60),
        }
    }

    fn issuer() -> (tempfile::TempDir, LocalIssuer) {
        let folder = tempfile::tempdir().unwrap();
        let issuer = LocalIssuer::open_or_create(&folder.path().join("issuer.pem")).unwrap();
        (folder, issuer)
    }

    #[test]
    fn a_token_has_the_requested_claims_and_those_of_the_issuer() {
        let (_folder, issuer) = issuer();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let token = issuer.mint(request(&json!({ "repository": "acme/my-app" })), now).unwrap();
        let read = Unverified::parse(token.expose()).unwrap();
        let other = issuer.mint(request(&json!({})), now).unwrap();
        assert_eq!(read.jws.header.kid.as_deref(), Some(issuer.kid()));
        assert_eq!(issuer.kid().len(), 43);
        let mut payload = read.claims.clone();
        let jti = payload.remove("jti").unwrap();
        assert_eq!(
            serde_json::Value::Object(payload),
            json!({
                "iss": LOCAL_ISSUER,
                "sub": "laptop",
                "aud": "us",
                "iat": 1_700_000_000,
                "exp": 1_700_000_060,
                "repository": "acme/my-app",
            })
        );
        assert_eq!(
            jti.as_str().unwrap().parse::<Ulid>().unwrap().timestamp_ms(),
            1_700_000_000_000
        );
        assert_ne!(Unverified::parse(other.expose()).unwrap().claims.get("jti"), Some(&jti));
        let key = issuer.key_set().unwrap().find(Some(issuer.kid())).unwrap();
        assert_eq!(read.jws.verify(&[crate::identity::Algorithm::EdDsa], &key), Ok(()));
    }

    #[test]
    fn a_token_that_nobody_would_accept_is_not_signed() {
        let (_folder, issuer) = issuer();
        let mint = |request: TokenRequest| issuer.mint(request, Timestamp::UNIX_EPOCH).err();
        for name in RESERVED {
            assert_eq!(
                mint(request(&json!({ name: "x" }))),
                Some(MintError::Reserved(name.to_owned()))
            );
        }
        for lifetime in [0, -1, 24 * 3600 + 1, i64::MAX] {
            let request = TokenRequest {
                lifetime: SignedDuration::from_secs(lifetime),
                ..request(&json!({}))
            };
            assert_eq!(mint(request), Some(MintError::Lifetime), "{lifetime}");
        }
        for subject in ["", "a\nb", &"x".repeat(LONGEST_SUBJECT + 1)] {
            assert_eq!(
                mint(TokenRequest { subject: subject.to_owned(), ..request(&json!({})) }),
                Some(MintError::Names)
            );
        }
        for claims in [
            json!({ "a": "x".repeat(8193) }),
            json!({ "a": vec!["x".repeat(8000); 4] }),
            serde_json::from_str(&format!("{{\"a\":{}{}}}", "[".repeat(16), "]".repeat(16)))
                .unwrap(),
        ] {
            assert_eq!(mint(request(&claims)), Some(MintError::TooLarge));
        }
    }
}
