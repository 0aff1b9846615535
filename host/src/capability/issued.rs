//! The secrets that a call comes upon: those that it takes, gets or makes, and those that stand in
//! an answer under the name of a secret.
//!
//! A provider may read an answer before it takes the secret out of it, and then write what it has
//! read to the log. The host cannot undo that, but none of these secrets leaves in a log line, an
//! error or a user name.
//!
//! Only the text itself and its form in a JSON string are found. A provider that hides a token in
//! another form does so on purpose, and the operator trusts it (`trust_provider`).

use std::sync::Arc;

use serde_json::Value;
use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::secrets::SecretHandle;
use super::{CallState, LimitExceeded};
use crate::domain::Secret;

/// No registry makes a shorter credential, and shorter text appears in other text by chance.
const SHORTEST: usize = 8;
/// How much of a secret is found wherever it stands. A provider may cut off the rest, and write
/// other text behind it.
const BEGINNING: usize = 24;
/// The most strings of answers that are kept.
const MOST: usize = 64;
/// The most secrets that a call gets a handle on. At its end, each is searched in each log line.
const MOST_HANDLES: usize = 256;
/// The memory that the host needs for a secret beside its text.
const BESIDE_TEXT: usize = 128;
/// How the name of a member ends whose value is a secret. Gitea's tokens are called `sha1`.
const SECRET_NAMES: [&str; 10] = [
    "token",
    "secret",
    "password",
    "passwd",
    "jwt",
    "apikey",
    "accesskey",
    "privatekey",
    "auth",
    "sha1",
];
/// The name of the text inside such a member, as in Azure's `{"passwords": [{"value": …}]}`.
const VALUE_NAMES: [&str; 3] = ["value", "data", "key"];

#[derive(Default)]
pub(crate) struct IssuedSecrets {
    handles: Vec<Arc<Secret>>,
    in_answers: Vec<Zeroizing<String>>,
    /// Those of the handles that no caller gets and no answer may repeat: assertions.
    private: Vec<(Arc<Secret>, &'static str)>,
}

impl CallState {
    /// Gives the provider a handle on a secret that the call has come upon. The host keeps the text
    /// until the call ends, so it counts like the guest's own memory.
    pub(super) fn give(
        &mut self,
        handle: SecretHandle,
    ) -> wasmtime::Result<Resource<SecretHandle>> {
        if !self.issued.is_known(&handle.secret) {
            if !self.memory.charge(handle.secret.expose().len() + BESIDE_TEXT) {
                return Err(LimitExceeded("secret bytes").into());
            }
            self.issued.add(&handle.secret)?;
        }
        Ok(self.table.push(handle)?)
    }
}

impl IssuedSecrets {
    fn is_known(&self, secret: &Arc<Secret>) -> bool {
        self.handles.iter().any(|known| Arc::ptr_eq(known, secret))
    }

    /// Adds a secret that the provider has a handle on.
    fn add(&mut self, secret: &Arc<Secret>) -> Result<(), LimitExceeded> {
        if secret.expose().len() < SHORTEST || self.is_known(secret) {
            return Ok(());
        }
        if self.handles.len() >= MOST_HANDLES {
            return Err(LimitExceeded("secrets"));
        }
        self.handles.push(Arc::clone(secret));
        Ok(())
    }

    /// Adds a secret that the host has signed for the registry's own endpoints. Signatures and
    /// calls to AWS have limits of their own.
    pub(super) fn add_private(&mut self, secret: &Arc<Secret>, kind: &'static str) {
        if !self.is_known(secret) {
            self.handles.push(Arc::clone(secret));
        }
        self.private.push((Arc::clone(secret), kind));
    }

    /// The kind of the first secret for the registry's endpoints only that `is_meant`.
    pub(crate) fn private(&self, is_meant: impl Fn(&Secret) -> bool) -> Option<&'static str> {
        self.private.iter().find(|(secret, _)| is_meant(secret)).map(|(_, kind)| *kind)
    }

    /// Adds what an answer has under names of secrets.
    pub(super) fn add_answer(&mut self, body: &str) {
        if let Ok(json) = serde_json::from_str(body) {
            self.visit(json, false);
        }
    }

    fn visit(&mut self, value: Value, is_secret: bool) {
        match value {
            Value::String(text) => {
                let text = Zeroizing::new(text);
                if is_secret && text.len() >= SHORTEST && self.in_answers.len() < MOST {
                    self.in_answers.push(text);
                }
            }
            Value::Array(items) => items.into_iter().for_each(|item| self.visit(item, is_secret)),
            Value::Object(members) => {
                for (name, value) in members {
                    let is_value = is_secret && VALUE_NAMES.contains(&name.as_str());
                    self.visit(value, is_value || is_named(&name));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Whether `text` has a secret on which the provider has a handle.
    pub(crate) fn has_handle_in(&self, text: &str) -> bool {
        self.handles.iter().any(|secret| text.contains(secret.expose()))
    }

    /// Whether `text` has one of the secrets, or the beginning of one: it may have been cut.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let plain = text.contains('\\').then(|| unescaped(text));
        let texts = [Some(text), plain.as_ref().map(|text| text.as_str())];
        let mut secrets = self
            .handles
            .iter()
            .map(|secret| secret.expose())
            .chain(self.in_answers.iter().map(|text| text.as_str()));
        secrets.any(|secret| texts.iter().flatten().any(|text| has(text, secret)))
    }
}

fn has(text: &str, secret: &str) -> bool {
    let (beginning, _) = secret.split_at(secret.floor_char_boundary(BEGINNING));
    let lengths = SHORTEST..beginning.len();
    text.contains(beginning)
        || lengths.filter_map(|length| beginning.get(..length)).any(|start| text.ends_with(start))
}

fn is_named(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name = letters.map(|letter| letter.to_ascii_lowercase()).collect::<String>();
    SECRET_NAMES.iter().any(|end| name.trim_end_matches('s').ends_with(end))
}

/// Resolves the escapes of JSON strings anywhere in `text`.
fn unescaped(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.strip_prefix('u').and_then(|after| after.get(..4));
        let letter = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        rest = if let Some(letter) = letter.and_then(char::from_u32) {
            plain.push(letter);
            after.get(5..).unwrap_or_default()
        } else {
            // `\/`, `\"` and `\\`. No secret has a control character.
            let mut letters = after.chars();
            plain.extend(letters.next());
            letters.as_str()
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Arc<Secret> {
        Arc::new(Secret::new(text.to_owned()))
    }

    #[test]
    fn what_a_call_comes_upon_is_found_in_text() {
        let mut issued = IssuedSecrets::default();
        issued.add(&secret("taken-token/1")).unwrap();
        issued.add(&secret("short")).unwrap();
        issued.add_answer(
            r#"{"access_token":"from-answer","id":"not-a-secret","robots":[{"Secret":"robot-key"}],
            "auth":{"name":"harmless-name"},"sha1":"from-gitea",
            "passwords":[{"name":"password1","value":"from-azure"}],"client-secret":["listed-key"],"token_type":"Bearers!"}"#,
        );
        for text in [
            "made taken-token/1 for you",
            r#"{"token":"taken-token\/1"}"#,
            r#"{"token":"\u0074aken-token/1"}"#,
            "cut off: taken-tok",
            "got from-answer",
            "robot-key",
            "listed-key",
            "from-gitea",
            "from-azure",
        ] {
            assert!(issued.are_in(text), "{text}");
        }
        for text in
            ["short", "taken", "not-a-secret", "harmless-name", "Bearers!", "", r"\u00", r"\"]
        {
            assert!(!issued.are_in(text), "{text}");
        }
        issued.add(&secret("eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJyIn0.c2ln")).unwrap();
        assert!(issued.are_in("denied: eyJhbGciOiJSUzI1NiJ9.eyJh (give it a role)"));
        assert!(!issued.are_in("denied: eyJhbGciOiJSUzI1NiJ9 (give it a role)"));
        assert!(issued.has_handle_in("robot-taken-token/1"));
        // An answer may call the user by a word that only looks like a secret.
        assert!(!issued.has_handle_in("robot-key"));
        issued.add_answer("not JSON");
    }

    #[test]
    fn a_call_comes_upon_a_bounded_number_of_secrets() {
        let mut issued = IssuedSecrets::default();
        let first = secret("secret-number-0");
        for _ in 0..2 * MOST_HANDLES {
            issued.add(&first).unwrap();
        }
        for number in 1..MOST_HANDLES {
            issued.add(&secret(&format!("secret-number-{number}"))).unwrap();
        }
        assert_eq!(issued.handles.len(), MOST_HANDLES);
        assert!(issued.add(&secret("one-too-many")).is_err());
        issued.add(&first).unwrap();
        issued.add_private(&secret("an-assertion"), "an assertion");
        assert!(issued.are_in("an-assertion"));
    }

    #[test]
    fn the_beginning_of_a_secret_is_found_whatever_its_characters_are() {
        // The 24th byte is within a character.
        let long = format!("{}ä{}", "x".repeat(23), "y".repeat(100));
        let mut issued = IssuedSecrets::default();
        issued.add(&secret(&long)).unwrap();
        for length in SHORTEST..long.len() {
            let Some(beginning) = long.get(..length) else { continue };
            assert!(issued.are_in(&format!("cut off: {beginning}")), "{length}");
        }
        assert!(issued.are_in(&format!("{} and more", "x".repeat(23))));
        assert!(!issued.are_in(&format!("{} and more", "x".repeat(22))));
    }
}
