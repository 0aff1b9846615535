//! The settings as a tree of values that remember their origin.
//!
//! The `config` crate merges all layers first, so it can neither name the file of an unknown key
//! nor replace the table of a registry when its `type` changes. This tree can.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The path of a file or the name of a variable.
    pub source: Arc<str>,
    /// The value is text from a variable or a `${…}`, to be read as the type that the schema wants.
    pub text: bool,
    /// The value comes from `${file:…}`, so it is a secret whatever the schema says.
    pub secret: bool,
    /// The value is in `[registry]`; messages then use this name for `[registries.default]`.
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
    pub kind: NodeKind,
}

#[derive(Clone)]
pub enum NodeKind {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Scalar(Value),
}

impl Node {
    pub fn empty_table(origin: Origin) -> Self {
        Self { origin, kind: NodeKind::Table(BTreeMap::new()) }
    }

    pub fn from_value(value: Value, origin: &Origin) -> Self {
        let kind = match value {
            Value::Object(map) => NodeKind::Table(
                map.into_iter()
                    .map(|(key, value)| (key, Self::from_value(value, origin)))
                    .collect(),
            ),
            Value::Array(items) => NodeKind::List(
                items.into_iter().map(|item| Self::from_value(item, origin)).collect(),
            ),
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                NodeKind::Scalar(scalar)
            }
        };
        Self { origin: origin.clone(), kind }
    }

    pub fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Table(map) => Value::Object(
                map.iter().map(|(key, node)| (key.clone(), node.to_value())).collect(),
            ),
            NodeKind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            NodeKind::Scalar(value) => value.clone(),
        }
    }

    pub fn table(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.kind {
            NodeKind::Table(map) => Some(map),
            NodeKind::List(_) | NodeKind::Scalar(_) => None,
        }
    }

    pub fn table_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.kind {
            NodeKind::Table(map) => Some(map),
            NodeKind::List(_) | NodeKind::Scalar(_) => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.table()?.get(key)
    }

    /// Records that this table was written as `[registry]`.
    pub fn mark_short(&mut self) {
        self.change_origin(&|origin| origin.short = true);
    }

    /// Changes the origin of this node and of everything in it.
    pub fn change_origin(&mut self, change: &impl Fn(&mut Origin)) {
        change(&mut self.origin);
        match &mut self.kind {
            NodeKind::Table(map) => map.values_mut().for_each(|node| node.change_origin(change)),
            NodeKind::List(items) => items.iter_mut().for_each(|node| node.change_origin(change)),
            NodeKind::Scalar(_) => {}
        }
    }

    /// Returns the items of a list, and nothing for other nodes.
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            NodeKind::List(items) => items,
            NodeKind::Table(_) | NodeKind::Scalar(_) => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar(Value::String(text)) => Some(text),
            NodeKind::Table(_) | NodeKind::List(_) | NodeKind::Scalar(_) => None,
        }
    }

    /// Returns the node at a JSON Pointer, or its nearest existing ancestor.
    pub fn nearest(&self, pointer: &str) -> &Self {
        let mut node = self;
        for key in pointer.split('/').skip(1) {
            let key = key.replace("~1", "/").replace("~0", "~");
            let next = match &node.kind {
                NodeKind::Table(map) => map.get(&key),
                NodeKind::List(items) => key.parse().ok().and_then(|index: usize| items.get(index)),
                NodeKind::Scalar(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// Calls `look` with each value that is no table and no list, and with its JSON Pointer.
    pub fn each_value(&self, look: &mut impl FnMut(&str, &Self)) {
        self.each_below("", look);
    }

    fn each_below(&self, pointer: &str, look: &mut impl FnMut(&str, &Self)) {
        match &self.kind {
            NodeKind::Table(map) => {
                for (key, node) in map {
                    node.each_below(&below(pointer, key), look);
                }
            }
            NodeKind::List(items) => {
                for (index, node) in items.iter().enumerate() {
                    node.each_below(&below(pointer, &index.to_string()), look);
                }
            }
            NodeKind::Scalar(_) => look(pointer, self),
        }
    }

    /// The same as [`Node::each_value`], to change the values.
    pub fn each_value_mut(&mut self, change: &mut impl FnMut(&str, &mut Self)) {
        self.each_below_mut("", change);
    }

    fn each_below_mut(&mut self, pointer: &str, change: &mut impl FnMut(&str, &mut Self)) {
        match &mut self.kind {
            NodeKind::Table(map) => {
                for (key, node) in map {
                    node.each_below_mut(&below(pointer, key), change);
                }
            }
            NodeKind::List(items) => {
                for (index, node) in items.iter_mut().enumerate() {
                    node.each_below_mut(&below(pointer, &index.to_string()), change);
                }
            }
            NodeKind::Scalar(_) => change(pointer, self),
        }
    }

    /// Merges `over` over this node: tables merge by key, everything else is replaced.
    pub fn merge(&mut self, over: Self) {
        match (&mut self.kind, over.kind) {
            (NodeKind::Table(under), NodeKind::Table(map)) => {
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

/// A problem with the settings: the source, the key, and a message with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub source: String,
    /// The key with dots, as in TOML. It is empty for a problem of a whole file.
    pub key: String,
    pub message: String,
}

impl Problem {
    pub fn new(source: &str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { source: source.to_owned(), key: key.into(), message: message.into() }
    }

    /// Makes a problem with the key as it is written at `origin`.
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
            // Parts may come from a provider, and this text goes to a terminal.
            let part: String = part
                .chars()
                .map(|char| if char.is_control() { ' ' } else { char })
                .take(2048)
                .collect();
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

/// The JSON Pointer of a key below another.
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Turns `/registries/prod/region` into `registries.prod.region`.
pub fn dotted(prefix: &str, pointer: &str) -> String {
    let keys = pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"));
    let prefix = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
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
