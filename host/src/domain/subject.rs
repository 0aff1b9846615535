//! The identity of a caller whose token is verified.

/// The claims of a verified token.
pub type Claims = serde_json::Map<String, serde_json::Value>;

/// The issuer of subjects that are users of the broker's machine, who run a command. No issuer of
/// the settings can have this name.
pub const COMMANDS: &str = "rise-broker-command";

/// A verified identity. `sub` alone is never a key, because two issuers may use the same one.
///
/// Only `identity` makes subjects, and `rules` those of commands. The fields are public because
/// rules and audit records read them.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The issuer's name in the settings, not its URL.
    pub issuer: String,
    pub sub: String,
    pub claims: Claims,
}
