//! What is wrong with a value, in words for the operator.
//!
//! **Invariant:** see [`super`]: no message contains the value of a setting, except a short word.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde_json::Value;

use super::{Node, Problem, Schema, dotted};

/// A keyword of the broker's schemas that describes the expected value in words.
const EXPECTED: &str = "x-expected";

impl Schema {
    #[expect(clippy::wildcard_enum_match_arm, reason = "`describe` handles the rest")]
    pub(super) fn explain(
        &self,
        error: &ValidationError<'_>,
        node: &Node,
        key: &str,
    ) -> Vec<Problem> {
        let pointer = error.instance_path().to_string();
        let at = |pointer: &str, message: String| {
            Problem::at(&node.nearest(pointer).origin, dotted(key, pointer), message)
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
                let pointer = format!("{pointer}/{property}");
                let message = match self.description(&pointer) {
                    Some(text) => format!("missing; it is required: {text}"),
                    None => "missing; this setting is required".to_owned(),
                };
                vec![at(&pointer, message)]
            }
            // For an `Option`, the problems of the other branch are the right ones.
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context }
                if self.expected(&pointer).is_none() && meant(context).is_some() =>
            {
                let errors = meant(context).into_iter().flatten();
                errors.flat_map(|error| self.explain(error, node, key)).collect()
            }
            kind => {
                let described = self
                    .expected(&pointer)
                    .or_else(|| self.expected_word(kind, &pointer, node))
                    .or_else(|| describe(kind).map(Cow::into_owned));
                let message =
                    described.unwrap_or_else(|| error.masked_with("the value").to_string());
                vec![at(&pointer, message)]
            }
        }
    }

    /// Returns the first sentence of a setting's description.
    fn description(&self, pointer: &str) -> Option<String> {
        let mut variants = self.variants(self.at(pointer)).into_iter();
        let text = variants.find_map(|variant| variant.get("description")?.as_str())?;
        let paragraph = text.split("\n\n").next()?.replace('\n', " ");
        let sentence = paragraph.split(". ").next()?;
        let text: String = sentence.chars().filter(|char| !char.is_control()).take(128).collect();
        Some(text.trim_end_matches('.').to_owned()).filter(|text| !text.is_empty())
    }

    /// Returns the description of the expected value, if the schema has one.
    fn expected(&self, pointer: &str) -> Option<String> {
        let mut variants = self.variants(self.at(pointer)).into_iter();
        let text = variants.find_map(|variant| variant.get(EXPECTED)?.as_str())?;
        Some(format!("expected {text}"))
    }

    /// Returns the words or the types of which the value is none.
    fn expected_word(
        &self,
        kind: &ValidationErrorKind,
        pointer: &str,
        node: &Node,
    ) -> Option<String> {
        let (ValidationErrorKind::AnyOf { .. }
        | ValidationErrorKind::OneOfNotValid { .. }
        | ValidationErrorKind::Constant { .. }
        | ValidationErrorKind::Enum { .. }) = kind
        else {
            return None;
        };
        let variants = self.variants(self.at(pointer));
        let listed = |variant: &&Value| {
            let many = variant.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
            variant.get("const").cloned().into_iter().chain(many).collect::<Vec<_>>()
        };
        let words = variants.iter().flat_map(listed);
        let words: Vec<String> =
            words.filter_map(|word| word.as_str().map(str::to_owned)).collect();
        if words.is_empty() {
            let types = variants.iter().filter_map(|variant| variant.get("type")?.as_str());
            let types: BTreeSet<&str> = types.map(type_name).collect();
            let types: Vec<&str> = types.into_iter().filter(|name| *name != "nothing").collect();
            return (!types.is_empty())
                .then(|| format!("wrong type, expected {}", types.join(" or ")));
        }
        let found = shown_word(node.nearest(pointer)).filter(|_| !self.is_secret(pointer));
        let found = found.map(|word| format!(", found `{word}`")).unwrap_or_default();
        Some(format!("expected one of {}{found}", words.join(", ")))
    }

    fn known_keys(&self, pointer: &str) -> Vec<&str> {
        let properties = self
            .variants(self.at(pointer))
            .into_iter()
            .filter_map(|variant| variant.get("properties")?.as_object());
        properties.flatten().map(|(key, _)| key.as_str()).collect()
    }
}

/// Returns the errors of the only branch that is not `null`.
fn meant<'a, 'b>(branches: &'a [Vec<ValidationError<'b>>]) -> Option<&'a Vec<ValidationError<'b>>> {
    let wants_nothing = |error: &ValidationError<'_>| {
        let ValidationErrorKind::Type { kind: TypeKind::Single(name) } = error.kind() else {
            return false;
        };
        name.to_string().trim_matches('"') == "null"
    };
    let mut meant = branches.iter().filter(|errors| !errors.iter().any(wants_nothing));
    meant.next().filter(|_| meant.next().is_none())
}

/// Returns the word that a file has here. A value from a variable or a secret file is not shown.
fn shown_word(node: &Node) -> Option<&str> {
    let is_word = |text: &&str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    node.text().filter(is_word).filter(|_| !node.origin.text && !node.origin.secret)
}

fn unknown(key: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .filter(|(score, _)| *score > 0.8);
    match near.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((_, near)) => format!("unknown setting, did you mean `{near}`?"),
        None if known.is_empty() => "unknown setting".to_owned(),
        None => format!("unknown setting, expected one of {}", known.join(", ")),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library describes the kinds that the broker's schemas do not use"
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
                    .map(|name| type_name(&name.to_string()).to_owned())
                    .filter(|name| name != "nothing")
                    .collect();
                format!("wrong type, expected {}", names.join(" or ")).into()
            }
        },
        ValidationErrorKind::Pattern { pattern } => format!("does not match `{pattern}`").into(),
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}").into(),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}").into(),
        ValidationErrorKind::MinLength { limit: 1 } => "must not be empty".into(),
        ValidationErrorKind::MinItems { limit: 1 } => "must have at least one entry".into(),
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
