//! Settings as they were written: values that remember where they came from.
//!
//! The `config` crate merges before anything can be asked, so it can neither name the file of an unknown key nor replace
//! a registry's table when its `type` changes; this tree can.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// A file's path or a variable's name.
    pub source: Arc<str>,
    /// Written as text whatever it means: an environment variable or a `${…}`. Read as the type the schema wants.
    pub text: bool,
    /// Came out of `${file:…}`, so it is a secret whatever the schema says.
    pub secret: bool,
    /// Lies in a `[registry]`, which is how messages call `[registries.default]` then.
    pub short: bool,
}

impl Origin {
    pub fn file(source: &str) -> Self {
        Self { source: source.into(), text: false, secret: false, short: false }
    }

    pub fn variable(name: &str) -> Self {
        Self { text: true, ..Self::file(&format!("the variable {name}")) }
    }
}

#[derive(Clone)]
pub struct Node {
    pub origin: Origin,
    pub kind: Kind,
}

#[derive(Clone)]
pub enum Kind {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Scalar(Value),
}

impl Node {
    pub fn empty_table(origin: Origin) -> Self {
        Self { origin, kind: Kind::Table(BTreeMap::new()) }
    }

    pub fn from_value(value: Value, origin: &Origin) -> Self {
        let kind = match value {
            Value::Object(map) => Kind::Table(
                map.into_iter()
                    .map(|(key, value)| (key, Self::from_value(value, origin)))
                    .collect(),
            ),
            Value::Array(items) => {
                Kind::List(items.into_iter().map(|item| Self::from_value(item, origin)).collect())
            }
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                Kind::Scalar(scalar)
            }
        };
        Self { origin: origin.clone(), kind }
    }

    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Table(map) => Value::Object(
                map.iter().map(|(key, node)| (key.clone(), node.to_value())).collect(),
            ),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Scalar(value) => value.clone(),
        }
    }

    pub fn table(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.kind {
            Kind::Table(map) => Some(map),
            Kind::List(_) | Kind::Scalar(_) => None,
        }
    }

    pub fn table_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.kind {
            Kind::Table(map) => Some(map),
            Kind::List(_) | Kind::Scalar(_) => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.table()?.get(key)
    }

    /// Remembers that this was written as `[registry]`.
    pub fn mark_short(&mut self) {
        self.origin.short = true;
        match &mut self.kind {
            Kind::Table(map) => map.values_mut().for_each(Self::mark_short),
            Kind::List(items) => items.iter_mut().for_each(Self::mark_short),
            Kind::Scalar(_) => {}
        }
    }

    /// Empty for what is not a list.
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            Kind::Table(_) | Kind::Scalar(_) => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            Kind::Table(_) | Kind::List(_) | Kind::Scalar(_) => None,
        }
    }

    /// The node at a JSON Pointer, or the deepest one on the way there.
    pub fn nearest(&self, pointer: &str) -> &Self {
        let mut node = self;
        for key in pointer.split('/').skip(1) {
            let key = key.replace("~1", "/").replace("~0", "~");
            let next = match &node.kind {
                Kind::Table(map) => map.get(&key),
                Kind::List(items) => key.parse().ok().and_then(|index: usize| items.get(index)),
                Kind::Scalar(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Lays `over` on top: tables merge by key, everything else is replaced whole.
    pub fn merge(&mut self, over: Self) {
        match (&mut self.kind, over.kind) {
            (Kind::Table(under), Kind::Table(map)) => {
                for (key, node) in map {
                    match under.get_mut(&key) {
                        Some(below) => below.merge(node),
                        None => {
                            under.insert(key, node);
                        }
                    }
                }
            }
            (_, kind) => *self = Self { origin: over.origin, kind },
        }
    }
}

/// One thing that is wrong with the settings: where, which key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub source: String,
    /// With dots, as one writes it in TOML; empty for a whole file.
    pub key: String,
    pub message: String,
}

impl Problem {
    pub fn new(source: &str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { source: source.to_owned(), key: key.into(), message: message.into() }
    }

    /// With the key as it stands at `origin`.
    pub fn at(origin: &Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        let mut key = key.into();
        let rest = key.strip_prefix("registries.default").filter(|_| origin.short);
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('.')) {
            key = format!("registry{rest}");
        }
        Self::new(&origin.source, key, message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        for part in [&self.key, &self.message].into_iter().filter(|part| !part.is_empty()) {
            // Some of it may be a provider's text, and this goes to a terminal.
            let part: String =
                part.chars().map(|it| if it.is_control() { ' ' } else { it }).take(2048).collect();
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

/// `/registries/prod/region` as `registries.prod.region`.
pub fn dotted(prefix: &str, pointer: &str) -> String {
    let keys = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"));
    let prefix = Some(prefix.to_owned()).filter(|it| !it.is_empty());
    prefix.into_iter().chain(keys).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_merge_and_lists_are_replaced() {
        let (low, high) = (Origin::file("low"), Origin::file("high"));
        let mut node =
            Node::from_value(json!({ "a": { "x": 1, "y": 2 }, "l": [1, 2], "s": 1 }), &low);
        node.merge(Node::from_value(json!({ "a": { "y": 3 }, "l": [9], "s": { "t": 1 } }), &high));
        assert_eq!(node.to_value(), json!({ "a": { "x": 1, "y": 3 }, "l": [9], "s": { "t": 1 } }));
        assert_eq!(&*node.nearest("/a/x").origin.source, "low");
        assert_eq!(&*node.nearest("/a/y").origin.source, "high");
        assert_eq!(&*node.nearest("/l/0").origin.source, "high");
    }
}
