//! Finds a configured secret in text that a provider wrote or a registry returned.
//!
//! A registry that repeats what it was sent would show a provider the secret that it may only pass
//! on. The whole answer is withheld then: if only the secret were cut out, a provider could choose
//! where to cut, and learn from that.
//!
//! A secret is found as it is, in upper or lower case, percent-encoded, escaped in a JSON string,
//! in base64 and in hex: registries and their error pages repeat a request in these forms by
//! accident. Other forms are not found, such as a reversed text, a half, a hash or compressed text.
//! To use them, a registry that the operator trusts with the secret would have to help a hostile
//! provider, and a registry that helps can choose a form that no search finds.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::capability::Capabilities;
use crate::domain::Secret;

/// A shorter piece of base64 or hex appears in any long text by chance.
const SHORTEST_ENCODED: usize = 12;

/// Whether `text` has a configured secret: as it is, in other letters, percent-encoded, in a JSON
/// string, in base64 or in hex.
pub(super) fn reveals(capabilities: &Capabilities, text: &str) -> bool {
    holds(&capabilities.secrets.values().map(|secret| &**secret).collect::<Vec<_>>(), text)
}

/// The same for secrets that a call has come upon.
pub(super) fn holds(secrets: &[&Secret], text: &str) -> bool {
    if secrets.is_empty() {
        return false;
    }
    let plain = |text: &str| {
        secrets.iter().any(|secret| secret.is_in(text)) || in_other_case(secrets, text)
    };
    let encoded = || {
        let forms =
            |secret: &str| encodings(secret).iter().any(|form| text.contains(form.as_str()));
        secrets.iter().any(|secret| forms(secret.expose()))
    };
    plain(text)
        || (text.contains(['%', '+']) && plain(&percent_decoded(text)))
        || (text.contains('\\') && in_json(text, &plain))
        || encoded()
}

/// A registry that keeps hexadecimal tokens or UUIDs repeats them in the case that it prefers.
fn in_other_case(secrets: &[&Secret], text: &str) -> bool {
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let secrets = secrets.iter().map(|secret| secret.expose());
    secrets.filter(|secret| secret.len() >= SHORTEST_ENCODED).any(|secret| {
        let secret = Zeroizing::new(secret.to_ascii_lowercase());
        lower.contains(secret.as_str())
    })
}

/// Searches the strings of a JSON document, unescaped.
fn in_json(text: &str, holds: &dyn Fn(&str) -> bool) -> bool {
    fn visit(value: &Value, holds: &dyn Fn(&str) -> bool) -> bool {
        match value {
            Value::String(text) => holds(text),
            Value::Array(items) => items.iter().any(|item| visit(item, holds)),
            Value::Object(members) => {
                members.iter().any(|(key, value)| holds(key) || visit(value, holds))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    serde_json::from_str::<Value>(text).is_ok_and(|value| visit(&value, holds))
}

/// Decodes the encoding of forms and queries, in which `+` is a blank.
fn percent_decoded(text: &str) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (byte, left) = match (first, byte) {
            (b'%', Some(byte)) => (byte, tail.get(2..).unwrap_or_default()),
            (b'+', _) => (b' ', tail),
            (other, _) => (*other, tail),
        };
        bytes.push(byte);
        rest = left;
    }
    Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())
}

/// The characters that stand for the whole secret at any position in longer encoded text: base64 in
/// each of its three alignments, which `Authorization: Basic` uses, and hex.
fn encodings(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms =
        vec![Zeroizing::new(hex::encode(secret)), Zeroizing::new(hex::encode_upper(secret))];
    for before in 0..3 {
        let mut bytes = Zeroizing::new(vec![0; before]);
        bytes.extend_from_slice(secret.as_bytes());
        // A character has six bits. Those that share bits with a neighbour are left out.
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            let all = Zeroizing::new(engine.encode(&*bytes));
            forms.extend(all.get(from..to).map(|form| Zeroizing::new(form.to_owned())));
        }
    }
    forms.retain(|form| form.len() >= SHORTEST_ENCODED);
    forms
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    fn capabilities(secret: &str) -> Capabilities {
        let secret = Arc::new(Secret::new(secret.to_owned()));
        let secrets = [("password".to_owned(), secret)].into();
        Capabilities { secrets, ..Capabilities::none() }
    }

    #[test]
    fn a_secret_is_found_in_every_usual_dress() {
        let secret = "s3cr\u{e9}t \"of+the/registry>?";
        let capabilities = capabilities(secret);
        let json = serde_json::json!({ "a": [{ "b": format!("x{secret}") }] }).to_string();
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let every: String = secret
            .bytes()
            .flat_map(|it| format!("%{it:02x}").into_bytes())
            .map(char::from)
            .collect();
        let escaped: String = secret
            .encode_utf16()
            .flat_map(|it| format!("\\u{it:04x}").into_bytes())
            .map(char::from)
            .collect();
        let mut found = vec![
            format!("before {secret} after"),
            format!("BEFORE {} AFTER", secret.to_ascii_uppercase()),
            json.to_ascii_uppercase().replace("\\N", "\\n"),
            json,
            format!("a=b&password={form}"),
            every,
            format!("{{\"{escaped}\": 1}}"),
            hex::encode(format!("x{secret}")),
        ];
        for user in ["", "u", "us", "use", "user:"] {
            found.push(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}{secret}"))));
            found.push(format!("Basic {}", BASE64_URL_SAFE.encode(format!("{user}{secret}x"))));
        }
        for text in found {
            assert!(reveals(&capabilities, &text), "{text}");
        }
        // The bound: nobody sends these back by accident.
        let (reversed, half) = (secret.chars().rev().collect::<String>(), &secret[..14]);
        for unseen in [reversed.as_str(), half] {
            assert!(!reveals(&capabilities, unseen), "{unseen}");
        }
        for harmless in ["", "s3cr", "{\"a\": \"b\\n\"}", "100 % +1", "%zz%", "czNjcsOpdA=="] {
            assert!(!reveals(&capabilities, harmless), "{harmless}");
        }
    }

    #[test]
    fn a_short_secret_is_not_found_in_random_text() {
        let capabilities = capabilities("abcd");
        assert!(reveals(&capabilities, "x abcd"));
        assert!(!reveals(&capabilities, "x ABCD"));
        assert!(!reveals(&capabilities, "YWJjZA== 61626364"));
    }
}
