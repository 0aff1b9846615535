//! Who a caller is, once its token has been verified.

/// The claims of a verified token, as its issuer wrote them.
pub type Claims = serde_json::Map<String, serde_json::Value>;

/// A verified identity. `sub` alone is never a key: two issuers may use the same one.
///
/// `identity` makes these and nothing else does; the fields are public because rules and records read all of them.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The issuer's name in the settings, not its URL.
    pub issuer: String,
    pub sub: String,
    pub claims: Claims,
}
