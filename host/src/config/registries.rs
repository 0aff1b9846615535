//! `[registries]`: separates the host's keys from the provider's settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cache;
use super::file::RegistryKeys;
use super::node::{Node, Origin, Problem};
use super::schema::{self, Schema};
use super::sections::bug;
use crate::domain::{ProjectShape, RegistryName};
use crate::files;

/// Of a file of authorities, in bytes.
const LARGEST_AUTHORITIES: u64 = 1 << 20;

/// One registry of the settings. The host's keys are checked, the provider's are not.
#[derive(Clone)]
pub struct RegistryConfig {
    /// The provider's name or one of its aliases.
    pub provider: String,
    pub type_origin: Origin,
    pub keys: RegistryKeys,
    /// Whether `keys` are valid. In a [`Draft`] they may be defaults in place of invalid ones.
    pub keys_are_right: bool,
    /// Whether there is any rule. Without one nobody gets a credential.
    pub has_rules: bool,
    /// The stated keys as JSON.
    pub written_keys: String,
    pub settings: Node,
    /// The whole table, for the origins of problems.
    pub written: Node,
}

impl RegistryConfig {
    /// The file of authorities, whose content is read together with the settings.
    pub(super) fn ca_file(&self) -> Option<PathBuf> {
        self.keys.ceiling.http.as_ref()?.ca_file.clone()
    }

    /// The projects of this registry; with `children` they own everything below.
    pub fn shape(&self, children: bool) -> ProjectShape {
        let depth = self.keys.project_depth.unwrap_or(1);
        ProjectShape { depth, children, ..ProjectShape::default() }
    }

    /// The same before its provider has read `child_repositories`.
    pub fn written_shape(&self) -> ProjectShape {
        let children = self.settings.get("child_repositories").map(Node::to_value);
        self.shape(children.is_some_and(|value| value == true || value == "true"))
    }
}

/// Reads a file of authorities. The error says what is wrong with it.
pub fn authorities(path: &Path) -> Result<Vec<u8>, String> {
    let pem = files::read(path, LARGEST_AUTHORITIES);
    let pem = pem.map_err(|error| format!("cannot be read: {error}; make it readable"))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err("has no certificate in PEM; name the file of the authority that signed the \
                    certificates of the endpoints"
            .to_owned());
    }
    Ok(pem)
}

/// Returns the valid registries.
pub(super) fn registries(
    root: &Node,
    unfilled: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<RegistryName, RegistryConfig> {
    let schema = Schema::new(schemars::schema_for!(RegistryKeys).to_value());
    let mut registries = BTreeMap::new();
    for (name, node) in root.get("registries").and_then(Node::table).into_iter().flatten() {
        let key = format!("registries.{name}");
        let Ok(name) = name.parse::<RegistryName>() else {
            let message = "not a valid name for a registry: expected 1 to 63 of `a-z`, `0-9`, \
                    `-` and `_`, beginning and ending with a letter or digit";
            problems.push(Problem::at(&node.origin, key, message));
            continue;
        };
        let short = Problem::at(&node.origin, &key, "").key;
        let inside =
            |it: &String| [&key, &short].iter().any(|key| it.starts_with(&format!("{key}.")));
        match &schema {
            Ok(schema) => registries.extend(
                registry(node, &key, schema, root.get("rules").is_some(), problems)
                    .filter(|_| !unfilled.iter().any(inside))
                    .map(|registry| (name, registry)),
            ),
            Err(error) => problems.push(bug(error)),
        }
    }
    for problem in problems.iter_mut() {
        let hint = with_hyphens(&problem.key, &registries);
        problem.message.extend(hint);
    }
    registries
}

/// For a registry without a `type`, whose name is that of another one with `_` for each `-`.
fn with_hyphens(key: &str, known: &BTreeMap<RegistryName, RegistryConfig>) -> Option<String> {
    let name = key.strip_prefix("registries.")?.strip_suffix(".type")?;
    let meant = name.replace('_', "-").parse::<RegistryName>().ok()?;
    (meant.as_str() != name && known.contains_key(&meant)).then(|| {
        format!("; or, if `{meant}` is meant, set it in a file: variables of a shell have no `-`")
    })
}

/// Separates the host's keys from the table of a registry. A table without `type` is invalid.
fn registry(
    node: &Node,
    key: &str,
    schema: &Schema,
    has_rules: bool,
    problems: &mut Vec<Problem>,
) -> Option<RegistryConfig> {
    let mut settings = node.clone();
    let mut own = Node::empty_table(node.origin.clone());
    // The schema of `SettingsFile` has reported a value that is not a table.
    let (theirs, ours) = (settings.table_mut()?, own.table_mut()?);
    let r#type = theirs.remove("type");
    for name in RegistryKeys::NAMES {
        ours.extend(theirs.remove_entry(name));
    }
    let (value, wrong) = schema.read(&own, key);
    let keys = if wrong.is_empty() {
        schema::deserialize(value, &own, key).map_err(|problem| vec![problem])
    } else {
        Err(wrong)
    };
    let (keys_are_right, written_keys) = (keys.is_ok(), own.to_value().to_string());
    let keys = keys.unwrap_or_else(|wrong| {
        problems.extend(wrong);
        RegistryKeys::default()
    });
    problems.extend(cache::contradiction(&keys, node, key));
    let missing = "missing; name the provider of this registry, such as \"ecr\" or \"oci\"";
    let untyped = "wrong type, expected text in quotes, such as \"ecr\" or \"oci\"";
    let (origin, message) = match &r#type {
        Some(it) => match it.text() {
            Some(name) => {
                let (provider, type_origin) = (name.to_owned(), it.origin.clone());
                let written = node.clone();
                return Some(RegistryConfig {
                    provider,
                    type_origin,
                    keys,
                    keys_are_right,
                    has_rules,
                    written_keys,
                    settings,
                    written,
                });
            }
            None => (&it.origin, untyped),
        },
        None => (&node.origin, missing),
    };
    problems.push(Problem::at(origin, format!("{key}.type"), message));
    None
}
