//! Bounds the work that a schema makes. A few hundred bytes can refer to each other so that a
//! validator visits them 2^40 times, and a provider's schema is text of its author.

use std::ptr;

use serde_json::Value;

use super::InvalidSchema;

/// The most schemas within a schema, each as often as it is referred to.
const MOST: usize = 10_000;
/// A validator calls itself for each schema within another.
const DEEPEST: usize = 128;
/// Compiling a pattern takes as long as visiting so many schemas.
const PATTERN: usize = 25;

/// Checks that a validator is done with `document` in reasonable time.
pub(super) fn check_extent(document: &Value) -> Result<(), InvalidSchema> {
    Walk { document, left: MOST, path: Vec::new() }.visit(document)
}

struct Walk<'a> {
    document: &'a Value,
    left: usize,
    /// The schemas around the one that is visited.
    path: Vec<&'a Value>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, schema: &'a Value) -> Result<(), InvalidSchema> {
        // `true` and `false` are schemas, too.
        let Some(keywords) = schema.as_object() else { return Ok(()) };
        self.count(1)?;
        // A schema that contains itself goes on only as far as the settings do.
        if self.path.iter().any(|outer| ptr::eq(*outer, schema)) {
            return Ok(());
        }
        if self.path.len() >= DEEPEST {
            return Err(InvalidSchema(format!("has more than {DEEPEST} schemas in each other")));
        }
        self.path.push(schema);
        for (keyword, value) in keywords {
            self.follow(keyword, value)?;
        }
        self.path.pop();
        Ok(())
    }

    /// Visits the schemas of one keyword.
    fn follow(&mut self, keyword: &str, value: &'a Value) -> Result<(), InvalidSchema> {
        match keyword {
            "$ref" => self.visit(self.target(value)?),
            "$dynamicRef" | "$recursiveRef" => {
                Err(InvalidSchema(format!("has a `{keyword}`, which this broker does not follow")))
            }
            // References below it would begin there.
            "$id" | "id" if value.is_string() && self.path.len() > 1 => {
                Err(InvalidSchema(format!("has an `{keyword}` below its root")))
            }
            "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "items"
            | "prefixItems"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "propertyNames"
            | "contentSchema" => {
                let listed = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                listed.iter().try_for_each(|schema| self.visit(schema))
            }
            "properties" | "patternProperties" | "dependentSchemas" | "dependencies" => {
                let named = value.as_object();
                if keyword == "patternProperties" {
                    self.count(PATTERN * named.map_or(0, serde_json::Map::len))?;
                }
                named.into_iter().flatten().try_for_each(|(_, schema)| self.visit(schema))
            }
            "pattern" => self.count(PATTERN),
            _ => Ok(()),
        }
    }

    fn target(&self, reference: &Value) -> Result<&'a Value, InvalidSchema> {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        pointer.and_then(|pointer| self.document.pointer(pointer)).ok_or_else(|| {
            InvalidSchema(
                "has a `$ref` that is not `#/…`, the place of another schema in it".to_owned(),
            )
        })
    }

    fn count(&mut self, schemas: usize) -> Result<(), InvalidSchema> {
        let left = self.left.checked_sub(schemas);
        self.left = left.ok_or_else(|| {
            InvalidSchema(format!(
                "is too large: with its references followed it has more than {MOST} schemas (a \
                 pattern counts as {PATTERN})"
            ))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// A schema whose `count` definitions look like `made(number)`, and which refers to the first.
    fn defined(count: usize, made: impl Fn(usize) -> Value) -> Value {
        let definitions = (0..count).map(|number| (format!("d{number}"), made(number)));
        json!({ "$ref": "#/$defs/d0", "$defs": definitions.collect::<Map<_, _>>() })
    }

    fn to(number: usize) -> Value {
        json!({ "$ref": format!("#/$defs/d{number}") })
    }

    #[test]
    fn a_small_text_that_is_a_large_schema_is_rejected() {
        let last = |number: usize, more: Value| if number == 39 { json!({}) } else { more };
        let (twice, each) = (|number| [to(number), to(number)], |at: usize| to(at));
        for (document, told) in [
            (defined(40, |at| last(at, json!({ "allOf": twice(at + 1) }))), "too large"),
            (
                defined(40, |at| {
                    last(at, json!({ "properties": { "a": to(at + 1), "b": to(at + 1) } }))
                }),
                "too large",
            ),
            // Each refers to all: every order of them is a path.
            (
                defined(12, |_| json!({ "anyOf": (0..12).map(each).collect::<Vec<_>>() })),
                "too large",
            ),
            (defined(1, |_| json!({ "allOf": vec![json!({ "pattern": "a" }); 400] })), "too large"),
            (defined(200, |at| if at == 199 { json!({}) } else { to(at + 1) }), "in each other"),
            (json!({ "$ref": "#/%24defs/a", "$defs": { "a": {} } }), "`$ref`"),
            (json!({ "$ref": "other.json" }), "`$ref`"),
            (json!({ "$dynamicRef": "#a" }), "`$dynamicRef`"),
            (json!({ "items": { "$id": "https://example.com/a" } }), "`$id`"),
        ] {
            let error = check_extent(&document).unwrap_err().to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    #[test]
    fn what_providers_write_is_accepted() {
        for document in [
            json!({ "$id": "https://example.com/settings", "type": "object" }),
            json!({ "properties": { "$ref": { "type": "string" }, "id": { "type": "string" } } }),
            json!({ "properties": { "a": { "default": { "$ref": "x", "id": "y" } } } }),
            // A list of lists.
            json!({ "properties": { "a": { "items": { "$ref": "#" } } } }),
            defined(60, |at| if at == 59 { json!(true) } else { json!({ "items": to(at + 1) }) }),
        ] {
            check_extent(&document).unwrap();
        }
    }
}
