//! Checks settings against a JSON Schema: the broker's own, and the one of each provider.
//!
//! **Invariant:** no message contains the value of a setting, because it may be a misplaced
//! password. The exception is a short word in a file, where the schema lists the allowed words and
//! does not mark the setting as a secret.

mod explain;
mod parts;

use std::net::SocketAddr;

use jsonschema::{PatternOptions, Validator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use serde_path_to_error::Segment;

use super::node::{Node, NodeKind, Problem, dotted};

/// Turns a value that a schema accepted into a type. `node` and `key` are its place in the
/// settings.
pub fn deserialize<T: DeserializeOwned>(
    value: Value,
    node: &Node,
    key: &str,
) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let keys = error.path().iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let pointer = keys.fold(String::new(), |pointer, key| pointer + "/" + &key);
        // The text before this word may quote the value.
        let message = error.inner().to_string();
        let expected = message.split_once("expected ").map_or("something else", |(_, rest)| rest);
        let is_number = ["u8", "u16", "u32", "u64", "usize"].contains(&expected);
        let expected = if is_number { "a smaller whole number" } else { expected };
        Problem::at(
            &node.nearest(&pointer).origin,
            dotted(key, &pointer),
            format!("wrong value, expected {expected}"),
        )
    })
}

#[derive(Debug, thiserror::Error)]
#[error("its settings schema {0}")]
pub struct InvalidSchema(String);

/// A compiled schema.
pub struct Schema {
    document: Value,
    validator: Validator,
}

impl Schema {
    pub fn new(document: Value) -> Result<Self, InvalidSchema> {
        parts::check_extent(&document)?;
        // Patterns are linear in the text and bounded in size, because they come from providers.
        let patterns = PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20);
        let validator = jsonschema::options()
            .with_pattern_options(patterns)
            .with_format("socket-address", |text: &str| text.parse::<SocketAddr>().is_ok())
            .should_validate_formats(true)
            .build(&document)
            .map_err(|error| InvalidSchema(format!("is not a JSON Schema: {error}")))?;
        Ok(Self { document, validator })
    }

    /// Returns the schema document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Returns the settings as JSON with the types of the schema, or all problems. `key` is the key
    /// of `node`.
    pub fn check(&self, node: &Node, key: &str) -> Result<Value, Vec<Problem>> {
        let (value, problems) = self.read(node, key);
        if problems.is_empty() { Ok(value) } else { Err(problems) }
    }

    /// Returns the settings as JSON even if there are problems, and the problems.
    pub fn read(&self, node: &Node, key: &str) -> (Value, Vec<Problem>) {
        let value = self.typed(node, &self.document);
        let mut problems: Vec<Problem> = self
            .validator
            .iter_errors(&value)
            .flat_map(|error| self.explain(&error, node, key))
            .collect();
        problems.dedup();
        (value, problems)
    }

    /// Returns whether any variant of the schema marks the property at this pointer as a secret.
    pub fn is_secret(&self, pointer: &str) -> bool {
        self.has_at(pointer, marks_secret)
    }

    /// Returns whether the secret at this pointer is a private key: `"format": "private-key"`.
    pub fn is_private_key(&self, pointer: &str) -> bool {
        let is_key = |schema: &Value| schema.get("format") == Some(&Value::from("private-key"));
        self.has_at(pointer, is_key)
    }

    fn has_at(&self, pointer: &str, has: impl Fn(&Value) -> bool) -> bool {
        let mut schemas = vec![&self.document];
        for key in pointer.split('/').skip(1) {
            let key = key.replace("~1", "/").replace("~0", "~");
            schemas = schemas
                .into_iter()
                .flat_map(|schema| self.children(schema, &key))
                .take(64)
                .collect();
        }
        schemas.iter().flat_map(|schema| self.variants(schema)).any(has)
    }

    /// Returns whether [`Self::is_secret`] finds every `writeOnly` of the document. It does not
    /// find one in `patternProperties`, for example.
    pub fn finds_every_secret(&self) -> bool {
        let mut reached: Vec<&Value> = Vec::new();
        let mut next = vec![&self.document];
        while let Some(schema) = next.pop() {
            for variant in self.variants(schema) {
                if reached.iter().any(|seen| std::ptr::eq(*seen, variant)) {
                    continue;
                }
                reached.push(variant);
                let properties = variant.get("properties").and_then(Value::as_object);
                next.extend(properties.into_iter().flat_map(Map::values));
                next.extend(
                    ["additionalProperties", "items"]
                        .iter()
                        .filter_map(|keyword| variant.get(keyword)),
                );
            }
        }
        let found = reached.into_iter().filter(|schema| marks_secret(schema)).count();
        found == count_secrets(&self.document)
    }

    /// Returns the values of `node`. Text from the environment is read as the type that `schema`
    /// wants.
    fn typed(&self, node: &Node, schema: &Value) -> Value {
        match &node.kind {
            NodeKind::Table(map) => {
                let typed = |(key, child): (&String, &Node)| {
                    (
                        key.clone(),
                        self.typed(child, self.child(schema, key).unwrap_or(&Value::Null)),
                    )
                };
                Value::Object(map.iter().map(typed).collect::<Map<_, _>>())
            }
            NodeKind::List(items) => {
                let inner = self.child(schema, "0").unwrap_or(&Value::Null);
                Value::Array(items.iter().map(|item| self.typed(item, inner)).collect())
            }
            // Text from a secret file stays text, because only text can be kept from a provider.
            NodeKind::Scalar(Value::String(text)) if node.origin.text && !node.origin.secret => {
                self.read_text(text, schema)
            }
            NodeKind::Scalar(Value::Number(number)) => Value::Number(self.whole(number, schema)),
            NodeKind::Scalar(value) => value.clone(),
        }
    }

    /// A schema accepts `600.0` as a whole number, but serde does not.
    fn whole(&self, number: &Number, schema: &Value) -> Number {
        let wants_whole = self.wants(schema, "integer") && !self.wants(schema, "number");
        let whole = number.as_f64().filter(|value| number.is_f64() && value.fract() == 0.0);
        let text = whole.filter(|_| wants_whole).map(|value| format!("{value:.0}"));
        text.and_then(|text| text.parse::<i64>().ok()).map_or_else(|| number.clone(), Number::from)
    }

    /// Returns whether the schema accepts this JSON type.
    fn wants(&self, schema: &Value, name: &str) -> bool {
        self.variants(schema).iter().filter_map(|variant| variant.get("type")).any(|types| {
            types
                .as_array()
                .map_or_else(|| types == name, |names| names.iter().any(|listed| listed == name))
        })
    }

    fn read_text(&self, text: &str, schema: &Value) -> Value {
        let wants = |name: &str| self.wants(schema, name);
        let unchanged = Value::String(text.to_owned());
        let is_other = ["integer", "number", "boolean", "array", "object"].into_iter().any(wants);
        if wants("string") || !is_other {
            return unchanged;
        }
        serde_json::from_str(text).unwrap_or(unchanged)
    }

    /// Returns the schema of `key` of a table, or of the items of a list.
    fn child<'a>(&'a self, schema: &'a Value, key: &str) -> Option<&'a Value> {
        self.children(schema, key).into_iter().next()
    }

    fn children<'a>(&'a self, schema: &'a Value, key: &str) -> Vec<&'a Value> {
        let child = |variant: &'a Value| {
            let property = variant.get("properties").and_then(|map| map.get(key));
            property
                .or_else(|| variant.get("additionalProperties").filter(|schema| schema.is_object()))
                .or_else(|| variant.get("items"))
        };
        self.variants(schema).into_iter().filter_map(child).collect()
    }

    /// Returns `schema` itself and every schema that it references or combines.
    fn variants<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![schema];
        let mut next = 0;
        // The bound stops a schema with circular references.
        while let Some(&schema) = found.get(next).filter(|_| next < 64) {
            next += 1;
            let local =
                schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
            found.extend(local.and_then(|pointer| self.document.pointer(pointer)));
            for keyword in ["anyOf", "oneOf", "allOf"] {
                found.extend(schema.get(keyword).and_then(Value::as_array).into_iter().flatten());
            }
        }
        found
    }

    /// Returns the schema at this pointer.
    fn at(&self, pointer: &str) -> &Value {
        let keys = pointer.split('/').skip(1);
        keys.fold(&self.document, |schema, key| self.child(schema, key).unwrap_or(&Value::Null))
    }
}

fn marks_secret(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
}

fn count_secrets(value: &Value) -> usize {
    let inside: usize = match value {
        Value::Object(map) => map.values().map(count_secrets).sum(),
        Value::Array(items) => items.iter().map(count_secrets).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    inside + usize::from(marks_secret(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::node::Origin;
    use super::*;

    fn schema() -> Schema {
        Schema::new(json!({
            "type": "object",
            "properties": {
                "region": { "type": "string" },
                "account_id": { "type": "string", "pattern": "^[0-9]{12}$" },
                "flag": { "type": ["boolean", "null"] },
                "count": { "$ref": "#/$defs/count" },
                "names": { "type": "array", "items": { "type": "string" } },
                "password": {
                    "anyOf": [{ "type": "string", "writeOnly": true }, { "type": "null" }]
                },
            },
            "required": ["region"],
            "additionalProperties": false,
            "$defs": { "count": { "type": "integer", "minimum": 1 } },
        }))
        .unwrap()
    }

    #[test]
    fn text_is_read_as_the_type_that_is_wanted() {
        let text = Origin::variable("X");
        let node = Node::from_value(
            json!({
                "region": "1", "account_id": "012345678901", "flag": "true", "count": "7",
                "names": "[\"a\"]",
            }),
            &text,
        );
        let expected = json!({
            "region": "1", "account_id": "012345678901", "flag": true, "count": 7, "names": ["a"],
        });
        assert_eq!(schema().check(&node, "").unwrap(), expected);
    }

    #[test]
    fn every_problem_is_named_and_no_value_is_shown() {
        let node = Node::from_value(
            json!({
                "regin": "hunter2", "account_id": "hunter2", "flag": "hunter2", "count": 0,
                "names": "hunter2",
            }),
            &Origin::file("f.toml"),
        );
        let mut problems: Vec<String> = schema()
            .check(&node, "registries.x")
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        problems.sort();
        assert_eq!(
            problems,
            [
                "f.toml: registries.x.account_id: does not match `^[0-9]{12}$`",
                "f.toml: registries.x.count: expected at least 1",
                "f.toml: registries.x.flag: wrong type, expected true or false",
                "f.toml: registries.x.names: wrong type, expected a list",
                "f.toml: registries.x.regin: unknown setting, did you mean `region`?",
                "f.toml: registries.x.region: missing; this setting is required",
            ]
        );
    }

    #[test]
    fn secrets_are_found_in_the_schema() {
        assert!(schema().is_secret("/password"));
        assert!(!schema().is_secret("/region"));
        assert!(!schema().is_secret("/nothing/here"));
        assert!(schema().finds_every_secret());
        let either = json!({ "anyOf": [
            { "properties": { "key": { "type": "string" } } },
            { "properties": { "key": { "type": "string", "writeOnly": true } } },
        ] });
        assert!(Schema::new(either).unwrap().is_secret("/key"));
        for hidden in ["patternProperties", "definitions"] {
            let document = json!({ hidden: { "^p": { "type": "string", "writeOnly": true } } });
            assert!(!Schema::new(document).unwrap().finds_every_secret(), "{hidden}");
        }
        let circle = json!({ "properties": { "a": { "$ref": "#" } }, "writeOnly": true });
        assert!(Schema::new(circle).unwrap().finds_every_secret());
    }
}
