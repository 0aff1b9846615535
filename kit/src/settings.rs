//! Settings to try a provider with: an operator's `[registries.…]`, or only the content of one such
//! table.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use rise_broker::config::node::{Node, NodeKind, Problem};
use rise_broker::config::{Config, Draft, Environment, parse_file, parse_toml};

pub(crate) struct Settings {
    pub config: Config,
    /// `[[answers]]`, which belong to the conformance kit and are not a setting.
    pub answers: Option<Node>,
}

impl Settings {
    /// Reads settings. `text` is TOML if it has a `=`, otherwise the path of a file. `provider` is
    /// the `type` of a registry without one.
    pub(crate) fn load(
        text: &str,
        provider: &str,
        environment: &Environment,
    ) -> Result<Self, Vec<Problem>> {
        let node = if text.contains('=') {
            parse_toml(text, "--settings")
        } else {
            parse_file(Path::new(text))
        };
        Self::of_node(node.map_err(|problem| vec![problem])?, provider, environment)
    }

    pub(crate) fn of_node(
        mut node: Node,
        provider: &str,
        environment: &Environment,
    ) -> Result<Self, Vec<Problem>> {
        let answers = node.table_mut().and_then(|table| table.remove("answers"));
        let mut draft = Draft::of_node(registries(node, provider), Path::new(""), environment)?;
        if draft.problems.is_empty() {
            // An author needs no rules, and sees what an operator will see.
            draft.config.registries.values_mut().for_each(|registry| registry.has_rules = true);
            Ok(Self { config: draft.config, answers })
        } else {
            Err(draft.problems)
        }
    }
}

fn registries(mut node: Node, provider: &str) -> Node {
    let Some(table) = node.table_mut() else { return node };
    if let Some(short) = table.remove("registry") {
        let registries = table_of(&short, "default", short.clone());
        table.insert("registries".to_owned(), registries);
    }
    if !table.contains_key("registries") {
        let mut own = node.clone();
        let named = Node { origin: node.origin.clone(), kind: text(provider) };
        own.table_mut().map(|own| own.entry("type".to_owned()).or_insert(named));
        let default = table_of(&node, "default", own);
        return table_of(&node, "registries", default);
    }
    node
}

fn text(text: &str) -> NodeKind {
    NodeKind::Scalar(Value::String(text.to_owned()))
}

fn table_of(place: &Node, name: &str, inner: Node) -> Node {
    let table = BTreeMap::from([(name.to_owned(), inner)]);
    Node { origin: place.origin.clone(), kind: NodeKind::Table(table) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_may_be_written_in_three_ways() {
        for text in [
            "registry_url = \"localhost:5000\"",
            "[registry]\ntype = \"oci\"\nregistry_url = \"localhost:5000\"",
            "[registries.default]\ntype = \"oci\"\nregistry_url = \"localhost:5000\"",
        ] {
            let settings = Settings::load(text, "oci", &Environment::new());
            let settings = settings.unwrap_or_else(|problems| panic!("{problems:?}"));
            let (name, registry) = settings.config.registries.first_key_value().unwrap();
            assert_eq!((name.as_str(), registry.provider.as_str()), ("default", "oci"), "{text}");
            let written = registry.settings.to_value();
            assert_eq!(written, serde_json::json!({ "registry_url": "localhost:5000" }));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("= nonsense", "not TOML"),
            ("/no/such/file.toml", "cannot be read"),
            ("[registries.x]\nregistry_url = \"a\"", "name the provider"),
            ("[registry]\ntype = \"oci\"\n[nonsense]\na = 1", "nonsense"),
        ] {
            let problems = Settings::load(text, "oci", &Environment::new()).err().expect(text);
            let said = problems.iter().map(ToString::to_string).collect::<String>();
            assert!(said.contains(expected), "{said}");
        }
    }
}
