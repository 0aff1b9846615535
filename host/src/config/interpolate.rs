//! Replaces `${VAR}`, `${VAR:-fallback}` and `${file:/run/secrets/x}` in the text of settings
//! files.
//!
//! It runs on the merged settings, so a variable is required only if its value is used. It does not
//! change the values of `RISE_A__B` variables, because a password may contain a `$`. `$${` stands
//! for a literal `${`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::layers::Environment;
use super::node::{Node, NodeKind, Origin, Problem, dotted};
use crate::files;

const MAX_SECRET_FILE: u64 = 64 << 10;

pub(super) fn interpolate(node: &mut Node, environment: &Environment) -> Vec<Problem> {
    let mut problems = Vec::new();
    node.each_value_mut(&mut |pointer, node| {
        let NodeKind::Scalar(Value::String(text)) = &mut node.kind else { return };
        if node.origin.text || !text.contains("${") {
            return;
        }
        match expand(text, environment) {
            Ok(expanded) => {
                *text = expanded.text;
                node.origin.text = expanded.replaced;
                node.origin.secret |= expanded.secret;
            }
            Err(message) => {
                problems.push(Problem::at(&node.origin, dotted("", pointer), message));
            }
        }
    });
    problems
}

/// A file with a secret, which the settings name by `${file:…}`.
pub(super) struct SecretFile {
    pub(super) path: PathBuf,
    origin: Origin,
    key: String,
}

impl SecretFile {
    /// A problem with the setting that names the file.
    pub(super) fn problem(&self, message: String) -> Problem {
        Problem::at(&self.origin, &self.key, message)
    }
}

/// The files that the settings name, before they are replaced.
pub(super) fn files(node: &Node) -> Vec<SecretFile> {
    let mut files = Vec::new();
    node.each_value(&mut |pointer, node| {
        let text = node.text().filter(|_| !node.origin.text).unwrap_or_default();
        let named = text.split("${file:").skip(1).filter_map(|rest| rest.split_once('}'));
        files.extend(named.map(|(path, _)| SecretFile {
            path: PathBuf::from(path),
            origin: node.origin.clone(),
            key: dotted("", pointer),
        }));
    });
    files
}

#[derive(Default)]
struct Expanded {
    text: String,
    replaced: bool,
    secret: bool,
}

fn expand(text: &str, environment: &Environment) -> Result<Expanded, String> {
    let mut expanded = Expanded::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            rest = after;
            continue;
        }
        expanded.text.push_str(before);
        let (expression, after) =
            after.split_once('}').ok_or("`${` without `}`; write `$${` for a literal `${`")?;
        if let Some(path) = expression.strip_prefix("file:") {
            expanded.text.push_str(&secret_file(path)?);
            expanded.secret = true;
        } else {
            expanded.text.push_str(&variable(expression, environment)?);
        }
        expanded.replaced = true;
        rest = after;
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

fn variable(expression: &str, environment: &Environment) -> Result<String, String> {
    let (name, fallback) =
        expression.split_once(":-").map_or((expression, None), |(name, rest)| (name, Some(rest)));
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(format!(
            "`${{{name}}}` is not a variable, expected ${{NAME}}, ${{NAME:-fallback}} or \
             ${{file:/path}}"
        ));
    }
    // As in a shell, `:-` also replaces a variable that is empty.
    let value = environment
        .get(&OsString::from(name))
        .filter(|value| fallback.is_none() || !value.is_empty());
    match (value, fallback) {
        (Some(value), _) => value
            .to_str()
            .map(str::to_owned)
            .ok_or(format!("the variable {name} is not UTF-8; set it to UTF-8 text")),
        (None, Some(fallback)) => Ok(fallback.to_owned()),
        (None, None) => Err(format!(
            "the variable {name} is not set; set it, or give a fallback with ${{{name}:-…}}"
        )),
    }
}

/// Returns the text of the file without its last line break, which editors add.
fn secret_file(path: &str) -> Result<String, String> {
    let text = files::read_text(Path::new(path), MAX_SECRET_FILE).map_err(|error| {
        format!("cannot read {path}: {error}; name a file that the broker's user can read")
    })?;
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        Err(format!("the file {path} is empty; put the secret into it"))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("REGION", "eu-west-1"), ("EMPTY", ""), ("ID", "012345678901")]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("${REGION}", Ok("eu-west-1")),
            ("a-${REGION}-${ID}", Ok("a-eu-west-1-012345678901")),
            ("${MISSING:-x}", Ok("x")),
            ("${EMPTY:-x}", Ok("x")),
            ("${EMPTY}", Ok("")),
            ("${MISSING:-}", Ok("")),
            ("$${REGION} $5", Ok("${REGION} $5")),
            ("plain", Ok("plain")),
            ("${MISSING}", Err("the variable MISSING is not set")),
            ("${REGION", Err("without `}`")),
            ("${a b}", Err("is not a variable")),
            ("${file:/nowhere}", Err("cannot read /nowhere")),
        ] {
            match (expand(text, &environment()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.text, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, _) => panic!("{text}: {:?}", found.map(|expanded| expanded.text)),
            }
        }
    }

    #[test]
    fn a_file_is_a_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let expanded =
            expand(&format!("${{file:{}}}", file.path().display()), &environment()).unwrap();
        assert_eq!((expanded.text.as_str(), expanded.secret), ("hunter2", true));
    }
}
