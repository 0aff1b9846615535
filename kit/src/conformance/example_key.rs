//! A private key in place of one of the examples: keys are not checked in, and only a key can sign.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use rise_broker::config::node::{Node, NodeKind};
use rise_broker::config::schema::Schema;

/// Puts a new RSA key, as the file of a Google service account, in place of each setting that is a
/// private key by its schema. A key that the author has written stays: it may be of another kind.
pub(super) fn replace(settings: &mut Node, schema: &Schema) {
    for (name, node) in settings.table_mut().into_iter().flatten() {
        let is_key = node.text().is_some_and(|text| text.contains("PRIVATE KEY"));
        if schema.is_private_key(&format!("/{name}")) && !is_key {
            node.kind = NodeKind::Scalar(service_account().map_or(Value::Null, Value::String));
        }
    }
}

fn service_account() -> Option<String> {
    let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    let text = BASE64_STANDARD.encode(der.as_ref());
    let key = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    let file = json!({
        "type": "service_account",
        "private_key": key,
        "private_key_id": "conformance",
        "client_email": "conformance@example.iam.gserviceaccount.com",
    });
    Some(file.to_string())
}

/// The part of a key that must not be anywhere else: its longest run of base64.
pub(super) fn canary(key: &str) -> &str {
    let is_base64 = |letter: char| letter.is_ascii_alphanumeric() || "+/".contains(letter);
    key.split(|letter| !is_base64(letter)).max_by_key(|run| run.len()).unwrap_or_default()
}
