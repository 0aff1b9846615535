//! Removes the secrets from a registry's settings before its provider sees them.
//!
//! **Invariant:** after [`extract`], the settings contain the name of each secret in place of its
//! value. A value is a secret if the provider's schema has `writeOnly` or if it comes from
//! `${file:…}`. A value that only looks like a secret is rejected, so that a schema cannot reveal
//! it by omitting the mark.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::capability::assertions::SigningKey;
use crate::config::node::{Node, Origin, Problem, dotted};
use crate::config::schema::Schema;
use crate::domain::Secret;

pub(super) type Secrets = BTreeMap<String, Arc<Secret>>;

/// `key` is the key of the settings, for messages.
pub(super) fn extract(
    settings: &mut Value,
    node: &Node,
    schema: &Schema,
    key: &str,
) -> Result<Secrets, Vec<Problem>> {
    let mut found = Extraction { node, schema, key, secrets: Secrets::new(), problems: Vec::new() };
    found.visit(settings, "", false);
    found.repeated(settings, "");
    if found.problems.is_empty() { Ok(found.secrets) } else { Err(found.problems) }
}

struct Extraction<'a> {
    node: &'a Node,
    schema: &'a Schema,
    key: &'a str,
    secrets: Secrets,
    problems: Vec<Problem>,
}

impl Extraction<'_> {
    /// With `inside`, a parent is marked as a secret, so everything below it is one.
    fn visit(&mut self, value: &mut Value, pointer: &str, inside: bool) {
        let origin = &self.node.nearest(pointer).origin;
        let is_secret = inside || origin.secret || self.schema.is_secret(pointer);
        match value {
            Value::Object(map) => {
                for (key, child) in map {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    self.visit(child, &format!("{pointer}/{key}"), is_secret);
                }
            }
            Value::Array(items) => {
                for (index, child) in items.iter_mut().enumerate() {
                    self.visit(child, &format!("{pointer}/{index}"), is_secret);
                }
            }
            Value::String(text) if is_secret => {
                let name = dotted("", pointer);
                if text.is_empty() {
                    self.problem(
                        origin,
                        pointer,
                        "a secret must not be empty; set it or remove the key",
                    );
                }
                let secret = Secret::new(std::mem::replace(text, name.clone()));
                if self.schema.is_private_key(pointer)
                    && let Err(error) = SigningKey::read(&secret)
                {
                    self.problem(origin, pointer, &error.to_string());
                }
                self.secrets.insert(name, Arc::new(secret));
            }
            Value::Bool(_) | Value::Number(_) if is_secret => {
                self.problem(origin, pointer, "a secret must be text; write it in quotes");
            }
            Value::String(_) if looks_secret(pointer) => {
                let message = "looks like a secret, but its provider does not mark it as one \
                    (`writeOnly`) and would see it; write it as ${file:/path}, or ask the author \
                    of the provider";
                self.problem(origin, pointer, message);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn problem(&mut self, origin: &Origin, pointer: &str, message: &str) {
        self.problems.push(Problem::at(origin, dotted(self.key, pointer), message));
    }
}

impl Extraction<'_> {
    /// Finds the value of a secret in another setting. Nothing that contains it may leave the
    /// broker, so such a registry could never answer.
    fn repeated(&mut self, value: &Value, pointer: &str) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, child)| self.repeated(child, &format!("{pointer}/{key}"))),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, child)| self.repeated(child, &format!("{pointer}/{index}"))),
            Value::String(text) if !self.secrets.contains_key(&dotted("", pointer)) => {
                let held = self.secrets.iter().find(|(_, secret)| secret.is_in(text));
                if let Some((name, _)) = held {
                    let message = format!(
                        "contains the value of the secret setting `{name}`, and nothing that \
                         contains it may leave the broker; choose another value for `{name}`"
                    );
                    self.problems.push(Problem::at(
                        &self.node.nearest(pointer).origin,
                        dotted(self.key, pointer),
                        message,
                    ));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Checks the last name in the pointer, or the one before if the last has no meaning (`/tokens/0`,
/// `/password/value`).
fn looks_secret(pointer: &str) -> bool {
    let says_nothing = |name: &&str| *name == "value" || name.bytes().all(|it| it.is_ascii_digit());
    let name = pointer.rsplit('/').find(|name| !says_nothing(name)).unwrap_or_default();
    let name = snake_case(name);
    let name = name.strip_suffix('s').unwrap_or(&name);
    let words = [
        "password",
        "passwd",
        "pwd",
        "pass",
        "passphrase",
        "token",
        "secret",
        "credential",
        "private_key",
        "privatekey",
        "secret_key",
        "secret_access_key",
        "api_key",
        "apikey",
    ];
    // The suffix `s` of `pass` is already removed.
    name == "pas" || words.iter().any(|word| name == *word || name.ends_with(&format!("_{word}")))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase()
            && snake.ends_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit())
        {
            snake.push('_');
        }
        snake.push(if letter == '-' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::new(json!({ "properties": {
            "password": { "type": "string", "writeOnly": true },
            "nested": { "properties": { "key": { "type": "string", "writeOnly": true } } },
        } }))
        .unwrap()
    }

    fn extracted(settings: &Value, origin: &Origin) -> Result<(Value, Secrets), Vec<Problem>> {
        let mut value = settings.clone();
        let secrets = extract(
            &mut value,
            &Node::from_value(settings.clone(), origin),
            &schema(),
            "registries.x",
        )?;
        Ok((value, secrets))
    }

    #[test]
    fn a_secret_is_replaced_by_its_name() {
        let settings = json!({ "password": "hunter2", "nested": { "key": "hunter3" }, "url": "x" });
        let (value, secrets) = extracted(&settings, &Origin::file("f")).unwrap();
        assert_eq!(
            value,
            json!({ "password": "password", "nested": { "key": "nested.key" }, "url": "x" })
        );
        assert_eq!(secrets["password"].expose(), "hunter2");
        assert_eq!(secrets["nested.key"].expose(), "hunter3");
    }

    #[test]
    fn what_came_from_a_secret_file_is_a_secret() {
        let origin = Origin { secret: true, ..Origin::file("f") };
        let (value, secrets) = extracted(&json!({ "anything": "hunter2" }), &origin).unwrap();
        assert_eq!(value, json!({ "anything": "anything" }));
        assert_eq!(secrets["anything"].expose(), "hunter2");
    }

    #[test]
    fn a_schema_cannot_unmask_a_secret_by_leaving_the_mark_out() {
        for name in [
            "token",
            "tokens",
            "secret",
            "private_key",
            "admin_password",
            "Api-Key",
            "apiKey",
            "adminPassword",
            "clientSecret",
            "pass",
            "passwd",
            "credentials",
        ] {
            let problems =
                extracted(&json!({ name: "hunter2" }), &Origin::file("f")).err().expect(name);
            let text = problems[0].to_string();
            assert!(text.contains("looks like a secret") && !text.contains("hunter2"), "{text}");
        }
        assert!(extracted(&json!({ "tokens": ["hunter2"] }), &Origin::file("f")).is_err());
        assert!(extracted(&json!({ "password": { "value": "x" } }), &Origin::file("f")).is_ok());
        for harmless in ["token_url", "bypass", "use_credential_helper"] {
            let settings = json!({ harmless: "x" });
            assert!(extracted(&settings, &Origin::file("f")).is_ok(), "{harmless}");
        }
    }

    #[test]
    fn a_secret_is_text() {
        for wrong in [json!(12_345_678), json!(true), json!({ "a": 1 })] {
            let settings = json!({ "password": wrong });
            assert!(extracted(&settings, &Origin::file("f")).is_err());
        }
    }
}
