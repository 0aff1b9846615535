//! The claims of a token, as far as the client reads them.
//!
//! Nobody has verified them. They explain rejections and name cached credentials, and no decision
//! depends on them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use rise_secret::Secret;

/// Claims that differ between two tokens of the same caller.
const FLEETING: &[&str] = &["exp", "iat", "nbf", "jti", "auth_time", "rat", "at_hash", "nonce"];

/// Empty if the token is not a JWT.
#[derive(Default)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    pub(crate) fn of(token: &Secret) -> Self {
        let payload = token.expose().split('.').nth(1).unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        Self(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Seconds since 1970.
    pub(crate) fn time(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))
    }

    /// The `aud` claim, which is one text or a list of texts.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.0.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the claim differs between two tokens of one caller.
    pub(crate) fn is_fleeting(name: &str) -> bool {
        FLEETING.contains(&name)
    }

    /// The claims that all tokens of one caller share and that no other caller has. For a token
    /// that is not a JWT this is the token itself.
    pub(crate) fn lasting(&self, token: &Secret) -> String {
        if self.0.is_empty() {
            return token.expose().to_owned();
        }
        let mut lasting = self.0.clone();
        lasting.retain(|name, _| !Self::is_fleeting(name));
        Value::Object(lasting).to_string()
    }
}
