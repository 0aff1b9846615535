//! Settings against a JSON Schema: ours, and the one that each provider brings.
//!
//! **Invariant:** no message holds a setting's value: it may be a password in the wrong place.

use std::borrow::Cow;

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde_json::{Map, Value};

use super::node::{Kind, Node, Problem, dotted};

#[derive(Debug, thiserror::Error)]
#[error("its settings schema is not a JSON Schema: {0}")]
pub struct InvalidSchema(String);

/// A compiled schema.
pub struct Schema {
    document: Value,
    validator: Validator,
}

impl Schema {
    pub fn new(document: Value) -> Result<Self, InvalidSchema> {
        let validator = jsonschema::validator_for(&document)
            .map_err(|error| InvalidSchema(error.to_string()))?;
        Ok(Self { document, validator })
    }

    /// The settings as JSON, typed as the schema wants, or everything wrong with them. `key` is where `node` stands.
    pub fn check(&self, node: &Node, key: &str) -> Result<Value, Vec<Problem>> {
        let value = self.typed(node, &self.document);
        let mut problems: Vec<Problem> = self
            .validator
            .iter_errors(&value)
            .flat_map(|error| self.explain(&error, node, key))
            .collect();
        problems.dedup();
        if problems.is_empty() { Ok(value) } else { Err(problems) }
    }

    /// Whether the schema marks the property at this pointer as a secret.
    pub fn is_secret(&self, pointer: &str) -> bool {
        let mut schema = &self.document;
        for key in pointer.split('/').skip(1) {
            match self.child(schema, key) {
                Some(child) => schema = child,
                None => return false,
            }
        }
        self.variants(schema).iter().any(|it| it.get("writeOnly") == Some(&Value::Bool(true)))
    }

    /// The values of `node`, where text from the environment is read as what `schema` wants in its place.
    fn typed(&self, node: &Node, schema: &Value) -> Value {
        match &node.kind {
            Kind::Table(map) => {
                let typed = |(key, child): (&String, &Node)| {
                    (
                        key.clone(),
                        self.typed(child, self.child(schema, key).unwrap_or(&Value::Null)),
                    )
                };
                Value::Object(map.iter().map(typed).collect::<Map<_, _>>())
            }
            Kind::List(items) => {
                let inner = self.child(schema, "0").unwrap_or(&Value::Null);
                Value::Array(items.iter().map(|item| self.typed(item, inner)).collect())
            }
            Kind::Scalar(Value::String(text)) if node.origin.text => self.read_text(text, schema),
            Kind::Scalar(value) => value.clone(),
        }
    }

    fn read_text(&self, text: &str, schema: &Value) -> Value {
        let variants = self.variants(schema);
        let wants = |name: &str| {
            variants.iter().filter_map(|it| it.get("type")).any(|it| {
                it.as_array().map_or_else(|| it == name, |names| names.iter().any(|it| it == name))
            })
        };
        let unchanged = Value::String(text.to_owned());
        let is_other = ["integer", "number", "boolean", "array", "object"].into_iter().any(wants);
        if wants("string") || !is_other {
            return unchanged;
        }
        serde_json::from_str(text).unwrap_or(unchanged)
    }

    /// The schema of a table's `key` or of a list's items.
    fn child<'a>(&'a self, schema: &'a Value, key: &str) -> Option<&'a Value> {
        self.variants(schema).into_iter().find_map(|it| {
            let property = it.get("properties").and_then(|map| map.get(key));
            property
                .or_else(|| it.get("additionalProperties").filter(|it| it.is_object()))
                .or_else(|| it.get("items"))
        })
    }

    /// `schema` itself and all that it points to or allows, one of which decides.
    fn variants<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![schema];
        let mut next = 0;
        // The bound ends a schema whose references go round in circles.
        while let Some(&schema) = found.get(next).filter(|_| next < 64) {
            next += 1;
            let local =
                schema.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix('#'));
            found.extend(local.and_then(|pointer| self.document.pointer(pointer)));
            for keyword in ["anyOf", "oneOf", "allOf"] {
                found.extend(schema.get(keyword).and_then(Value::as_array).into_iter().flatten());
            }
        }
        found
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`describe` has the rest")]
    fn explain(&self, error: &ValidationError<'_>, node: &Node, key: &str) -> Vec<Problem> {
        let pointer = error.instance_path().to_string();
        let at = |pointer: &str, message: String| Problem {
            source: node.nearest(pointer).origin.source.to_string(),
            key: dotted(key, pointer),
            message,
        };
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                let known = self.known_keys(&pointer);
                unexpected
                    .iter()
                    .map(|key| at(&format!("{pointer}/{key}"), unknown(key, &known)))
                    .collect()
            }
            ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                vec![at(
                    &format!("{pointer}/{property}"),
                    "missing; this setting is required".to_owned(),
                )]
            }
            kind => vec![at(
                &pointer,
                describe(kind)
                    .unwrap_or_else(|| error.masked_with("the value").to_string().into())
                    .into_owned(),
            )],
        }
    }

    fn known_keys(&self, pointer: &str) -> Vec<&str> {
        let mut schema = &self.document;
        for key in pointer.split('/').skip(1) {
            schema = self.child(schema, key).unwrap_or(&Value::Null);
        }
        let properties =
            self.variants(schema).into_iter().filter_map(|it| it.get("properties")?.as_object());
        properties.flatten().map(|(key, _)| key.as_str()).collect()
    }
}

fn unknown(key: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|it| (strsim::jaro_winkler(key, it), it))
        .filter(|(score, _)| *score > 0.8);
    match near.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((_, near)) => format!("unknown setting, did you mean `{near}`?"),
        None if known.is_empty() => "unknown setting".to_owned(),
        None => format!("unknown setting, expected one of {}", known.join(", ")),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's own words do for what our schemas do not use"
)]
fn describe(kind: &ValidationErrorKind) -> Option<Cow<'static, str>> {
    Some(match kind {
        ValidationErrorKind::Type { kind } => match kind {
            TypeKind::Single(name) => {
                format!("wrong type, expected {}", type_name(&name.to_string())).into()
            }
            TypeKind::Multiple(names) => {
                let names: Vec<String> = names
                    .iter()
                    .map(|it| type_name(&it.to_string()).to_owned())
                    .filter(|it| it != "nothing")
                    .collect();
                format!("wrong type, expected {}", names.join(" or ")).into()
            }
        },
        ValidationErrorKind::Enum { options } => {
            let options: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("expected one of {}", options.join(", ")).into()
        }
        ValidationErrorKind::Pattern { pattern } => format!("does not match `{pattern}`").into(),
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}").into(),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}").into(),
        ValidationErrorKind::MinLength { limit: 1 } => "must not be empty".into(),
        ValidationErrorKind::MinItems { limit: 1 } => "must name at least one".into(),
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            "has none of the shapes that are allowed here".into()
        }
        _ => return None,
    })
}

fn type_name(name: &str) -> &str {
    match name.trim_matches('"') {
        "string" => "text in quotes",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "object" => "a table",
        "array" => "a list",
        "null" => "nothing",
        _ => "a number",
    }
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
                "password": { "anyOf": [{ "type": "string", "writeOnly": true }, { "type": "null" }] },
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
            json!({ "region": "1", "account_id": "012345678901", "flag": "true", "count": "7", "names": "[\"a\"]" }),
            &text,
        );
        let expected = json!({ "region": "1", "account_id": "012345678901", "flag": true, "count": 7, "names": ["a"] });
        assert_eq!(schema().check(&node, "").unwrap(), expected);
    }

    #[test]
    fn every_problem_is_named_and_no_value_is_shown() {
        let node = Node::from_value(
            json!({ "regin": "hunter2", "account_id": "hunter2", "flag": "hunter2", "count": 0, "names": "hunter2" }),
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
    }
}
