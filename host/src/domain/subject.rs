//! The identity of a caller whose token is verified.

use sha2::{Digest, Sha256};

/// The claims of a verified token.
pub type Claims = serde_json::Map<String, serde_json::Value>;

/// The issuer of subjects that are users of the broker's machine, who run a command. No issuer of
/// the settings can have this name.
pub const COMMANDS: &str = "rise-broker-command";

/// A verified identity. `sub` alone is never a key, because two issuers may use the same one.
///
/// Only `identity` makes subjects, but for [`Subject::of_command`]. The fields are public because
/// rules and audit records read them.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The issuer's name in the settings, not its URL.
    pub issuer: String,
    pub sub: String,
    pub claims: Claims,
}

impl Subject {
    /// A user of the broker's machine, who runs a command.
    pub fn of_command(user: &str) -> Self {
        Self { issuer: COMMANDS.to_owned(), sub: user.to_owned(), claims: Claims::new() }
    }
}

/// Tells whether two subjects are the same, however long their `sub` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubjectDigest([u8; 32]);

impl SubjectDigest {
    pub fn of(issuer: &str, sub: &str) -> Self {
        Self::of_hashed(issuer, hash_of_sub(sub))
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The same where only the hash of `sub` is known.
    pub fn of_hashed(issuer: &str, sub: [u8; 32]) -> Self {
        // Of fixed length, so that no `sub` continues the name of an issuer.
        let issuer = Sha256::digest(issuer.as_bytes());
        Self(Sha256::new().chain_update(issuer).chain_update(sub).finalize().into())
    }
}

/// What a record has of a `sub` that is too long for it.
pub fn hash_of_sub(sub: &str) -> [u8; 32] {
    Sha256::digest(sub.as_bytes()).into()
}

impl Subject {
    pub fn digest(&self) -> SubjectDigest {
        SubjectDigest::of(&self.issuer, &self.sub)
    }
}
