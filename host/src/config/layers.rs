//! The layers of the settings. A later one overrides an earlier one: `default`, that of the run
//! mode, `local`, `RISE_A__B` variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::node::{Node, NodeKind, Origin, Problem};
use super::run_mode::{self, RunMode};
use super::unread;
use crate::{files, user};

/// Ten thousand rules take one MiB or two. The limit protects memory against a wrong path
/// (`/dev/zero`).
const MAX_FILE: u64 = 8 << 20;
/// The deepest setting that there is has seven levels.
const MAX_LEVELS: usize = 16;
/// How much of a variable's name a message quotes.
const LONGEST_NAME: usize = 80;

/// Where the settings are if no folder is named.
const OWN: &str = "config";
const INSTALLED: &str = "/etc/rise-broker";

/// The environment variables of this process. Only this module reads the environment.
pub type Environment = BTreeMap<OsString, OsString>;

pub fn environment() -> Environment {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the environment")]
    std::env::vars_os().collect()
}

/// The folder of the settings if none is named: `config` in the working directory, or else that of
/// an installation.
pub fn find_directory() -> PathBuf {
    let (own, installed) = (Path::new(OWN), Path::new(INSTALLED));
    // Whatever `config` is, the operator expects it to be used.
    let is_installed = own.symlink_metadata().is_err() && installed.is_dir();
    if is_installed { installed.to_owned() } else { own.to_owned() }
}

/// Merges all layers. It reads every layer even after an error, to report all problems at once.
///
/// Returns them with warnings about lists that a layer replaces.
pub(super) fn load(
    directory: &Path,
    environment: &Environment,
) -> Result<(Node, Vec<Problem>), Vec<Problem>> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut merged = Node::empty_table(Origin::file(&directory.display().to_string()));
    if !directory.is_dir() {
        let message = match directory.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(vec![unreadable(&directory.join("default.toml"), &error)]);
            }
            Ok(_) => "this is a file; name the folder of your settings with --config-dir",
            Err(_) if directory == Path::new(OWN) => {
                "this folder does not exist, and neither does /etc/rise-broker; name the folder of \
                 your settings with --config-dir"
            }
            Err(_) => {
                "this folder does not exist; name the folder of your settings with --config-dir"
            }
        };
        return Err(vec![Problem::new(&directory.display().to_string(), "", message)]);
    }
    for (is_last, layer) in [
        (false, file_layer(directory, "default")),
        (false, run_mode_layer(directory, environment)),
        (true, file_layer(directory, "local")),
    ] {
        match layer.and_then(normalize) {
            Ok(Some(layer)) => {
                warnings.extend(replaced(&merged, &layer).filter(|_| is_last));
                merge_layer(&mut merged, layer);
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    match variables_layer(environment).and_then(|layer| normalize(Some(layer))) {
        Ok(layer) => {
            if let Some(layer) = layer {
                warnings.extend(replaced(&merged, &layer));
                merge_layer(&mut merged, layer);
            }
        }
        Err(problem) => problems.push(problem),
    }
    if problems.is_empty() { Ok((merged, warnings)) } else { Err(problems) }
}

/// Tells that rules of an earlier layer are gone: tables are merged, and lists are not.
fn replaced(merged: &Node, layer: &Node) -> Option<Problem> {
    let (before, after) = (merged.get("rules")?, layer.get("rules")?);
    let count = before.items().len();
    (count > 0).then(|| {
        let message = format!(
            "replaces the {count} rules of {}: lists of layers are not merged; repeat them here, \
             or add your rule there",
            before.origin.source
        );
        Problem::at(&after.origin, "rules", message)
    })
}

fn run_mode_layer(directory: &Path, environment: &Environment) -> Result<Option<Node>, Problem> {
    let Some(RunMode { name: mode, source }) = run_mode::find(directory, environment)? else {
        return Ok(None);
    };
    if let Some(layer) = file_layer(directory, &mode)? {
        return Ok(Some(layer));
    }
    let shown = directory.display();
    let near = unread::joined(&unread::files(directory, environment));
    let near = near.map(|files| format!("; {files}")).unwrap_or_default();
    let message = format!(
        "neither `{mode}.toml` nor `{mode}.yaml` exists in {shown}{near}; create one, or {}",
        if source == run_mode::VARIABLE {
            format!("unset {source}")
        } else {
            format!("remove {source}")
        }
    );
    Err(Problem::new(&source, "", message))
}

/// Reads `{name}.toml` or `{name}.yaml`, if one exists.
fn file_layer(directory: &Path, name: &str) -> Result<Option<Node>, Problem> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    for end in ["toml", "yaml"] {
        let path = directory.join(format!("{name}.{end}"));
        // A link to nowhere is a file that cannot be read, and not a file that is not there.
        let found = path.try_exists().map(|exists| exists || path.is_symlink());
        if found.map_err(|error| unreadable(&path, &error))? {
            candidates.push(path);
        }
    }
    match candidates.as_slice() {
        [] => Ok(None),
        [path] => parse_file(path).map(Some),
        [first, second, ..] => {
            let message = format!("{} also exists; remove one of the two files", second.display());
            Err(Problem::new(&first.display().to_string(), "", message))
        }
    }
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let message = if error.kind() == std::io::ErrorKind::PermissionDenied {
        let folder = path.parent().unwrap_or(path).display().to_string();
        format!(
            "cannot be read by {}: {error}; run this command as the broker's user, or give that \
             user's group access with `chgrp`, `chmod g+rx {folder}` and `chmod g+r {}`",
            user::own_name(),
            path.display()
        )
    } else {
        format!("cannot be read: {error}; make it a text file that the broker's user may read")
    };
    Problem::new(&path.display().to_string(), "", message)
}

/// Parses a single file, `.toml` or `.yaml`, without other layers.
pub fn parse_file(path: &Path) -> Result<Node, Problem> {
    let source = path.display().to_string();
    let problem = |message: String| Problem::new(&source, "", message);
    let text = files::read_text(path, MAX_FILE).map_err(|error| unreadable(path, &error))?;
    if path.extension().is_some_and(|end| end == "toml") {
        return parse_toml(&text, &source);
    }
    let value: Value = if text.trim().is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        serde_saphyr::from_str(&text)
            .map_err(|error| problem(format!("not YAML: {}", yaml_error(&error.to_string()))))?
    };
    if value.is_object() {
        Ok(Node::from_value(value, &Origin::file(&source)))
    } else {
        Err(problem("expected tables of settings, such as `server:`".to_owned()))
    }
}

/// Parses TOML. `source` is its name in messages.
pub fn parse_toml(text: &str, source: &str) -> Result<Node, Problem> {
    let problem = |message: String| Problem::new(source, "", message);
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| problem(format!("not TOML: {}", toml_error(&error, text))))?;
    let value = serde_json::to_value(table).map_err(|error| problem(error.to_string()))?;
    let mut node = Node::from_value(value, &Origin::file(source));
    name_lines(&mut node, text, source);
    Ok(node)
}

/// Adds its line to the origin of each rule. A file may have dozens of them, and their keys are
/// only numbers.
fn name_lines(root: &mut Node, text: &str, source: &str) {
    let is_header = |line: &str| {
        let inner = line.trim_start().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
        inner.is_some_and(|(name, _)| name.trim() == "rules")
    };
    let lines: Vec<usize> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| is_header(line))
        .map(|(number, _)| number)
        .collect();
    let Some(NodeKind::List(rules)) =
        root.table_mut().and_then(|root| root.get_mut("rules")).map(|rules| &mut rules.kind)
    else {
        return;
    };
    // Text over several lines can look like a header, and then no line is certain.
    if rules.len() == lines.len() {
        for (rule, line) in rules.iter_mut().zip(lines) {
            rule.change_origin(&|origin| origin.source = format!("{source}:{line}").into());
        }
    }
}

/// Returns place and message, without the quoted line, which may contain a password.
fn toml_error(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
    let message = first_line(error.message());
    if message == "duplicate key" {
        return format!("line {line}: {}", twice(text, line));
    }
    format!("line {line}: {message}")
}

/// Says what this line states for the second time: a table, or a key of the table above it.
fn twice(text: &str, line: usize) -> String {
    let header = |line: &str| {
        let line = line.split('#').next().unwrap_or_default().trim();
        (line.starts_with('[') && line.ends_with(']')).then(|| line.to_owned())
    };
    let lines: Vec<&str> = text.lines().take(line).collect();
    let Some((written, above)) = lines.split_last() else { return "duplicate key".to_owned() };
    if let Some(table) = header(written) {
        return format!("the table {table} is there twice; make one of the two, or remove one");
    }
    let key = written.split('=').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    let table = above.iter().rev().find_map(|line| header(line));
    let table = table.map(|table| format!(" in {table}")).unwrap_or_default();
    format!("`{}` is there twice{table}; remove one", shortened(&key.escape_debug().to_string()))
}

fn yaml_error(text: &str) -> &str {
    let line = first_line(text);
    line.strip_prefix("error: ").unwrap_or(line)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Reads every variable `RISE_A__B`. Other `RISE_*` variables are not settings.
fn variables_layer(environment: &Environment) -> Result<Node, Problem> {
    let mut root = Node::empty_table(Origin::variable("RISE_*"));
    for (name, value) in environment {
        let Some(name) = name.to_str() else { continue };
        let Some(path) = name.strip_prefix("RISE_").filter(|path| path.contains("__")) else {
            continue;
        };
        let source = format!("the variable {name}");
        let Some(value) = value.to_str() else {
            return Err(Problem::new(&source, "", "not UTF-8; set it to UTF-8 text"));
        };
        let keys: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        if keys.len() > MAX_LEVELS {
            let message = format!("more than {MAX_LEVELS} names; no setting lies so deep");
            return Err(Problem::new(&shortened(&source), "", message));
        }
        if keys.iter().any(String::is_empty) {
            return Err(Problem::new(
                &source,
                "",
                "expected names joined by `__`, such as RISE_REGISTRY__TYPE",
            ));
        }
        let leaf = Node {
            origin: Origin::variable(name),
            kind: NodeKind::Scalar(Value::String(value.to_owned())),
        };
        let nested = keys.into_iter().rev().fold(leaf, |inner, key| Node {
            origin: Origin::variable(name),
            kind: NodeKind::Table(BTreeMap::from([(key, inner)])),
        });
        root.merge(nested);
    }
    Ok(root)
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    let cut = text.floor_char_boundary(LONGEST_NAME);
    let shown = text.get(..cut).unwrap_or_default();
    if cut < text.len() { format!("{shown}…") } else { shown.to_owned() }
}

/// Replaces `[registry]` by `[registries.default]`.
fn normalize(layer: Option<Node>) -> Result<Option<Node>, Problem> {
    let Some(mut layer) = layer else { return Ok(None) };
    let Some(root) = layer.table_mut() else { return Ok(Some(layer)) };
    let Some(mut short) = root.remove("registry") else { return Ok(Some(layer)) };
    short.mark_short();
    let origin = short.origin.clone();
    let registries =
        root.entry("registries".to_owned()).or_insert_with(|| Node::empty_table(origin.clone()));
    if let Some(map) = registries.table_mut()
        && map.insert("default".to_owned(), short).is_some()
    {
        let message =
            "`[registry]` is short for `[registries.default]`, but both exist; keep one of them";
        return Err(Problem::new(&origin.source, "registry", message));
    }
    Ok(Some(layer))
}

/// Merges `layer` over `merged`. If `layer` states the `type` of a registry, it replaces the whole
/// registry, because the settings of one provider are wrong for another.
fn merge_layer(merged: &mut Node, layer: Node) {
    let stated = layer.get("registries").and_then(Node::table);
    let retyped: Vec<String> = stated
        .into_iter()
        .flatten()
        .filter(|(_, registry)| registry.table().is_some_and(|table| table.contains_key("type")))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(registries) =
        merged.table_mut().and_then(|root| root.get_mut("registries")).and_then(Node::table_mut)
    {
        registries.retain(|name, _| !retyped.contains(name));
    }
    merged.merge(layer);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn layers(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Node, Vec<Problem>> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let environment =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        load(directory.path(), &environment).map(|(node, _)| node)
    }

    #[test]
    fn higher_layers_win() {
        let files = [
            (
                "default.toml",
                "[log]\nlevel = \"a\"\nformat = \"a\"\n[server]\nlisten = \"a\"\n[registry]\n\
                 type = \"ecr\"\nregion = \"r\"",
            ),
            ("production.yaml", "log:\n  level: b\n  format: b\n"),
            ("local.toml", "[log]\nlevel = \"c\""),
        ];
        let variables = [
            ("RISE_CONFIG_RUN_MODE", "production"),
            ("RISE_SERVER__LISTEN", "d"),
            ("RISE_TOKEN", "ignored"),
        ];
        let merged = layers(&files, &variables).unwrap().to_value();
        let expected = json!({ "log": { "level": "c", "format": "b" }, "server": { "listen": "d" },
            "registries": { "default": { "type": "ecr", "region": "r" } } });
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_stated_type_replaces_the_registry() {
        let files = [(
            "default.toml",
            "[registry]\ntype = \"docker\"\nregistry_url = \"x\"\n[registries.b]\ntype = \"oci\"",
        )];
        let merged =
            layers(&files, &[("RISE_REGISTRY__TYPE", "ecr"), ("RISE_REGISTRY__ACCOUNT_ID", "012")])
                .unwrap();
        assert_eq!(
            merged.to_value(),
            json!({ "registries": {
                "default": { "type": "ecr", "account_id": "012" },
                "b": { "type": "oci" },
            } })
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Pairs<'_>, Pairs<'_>, &str); 10] = [
            (&[("default.toml", ""), ("default.yaml", "")], &[], "default.yaml also exists"),
            (&[("default.toml", "a = \n")], &[], "not TOML: line 1"),
            (&[("default.toml", "a = 1\na = 2\n")], &[], "line 2: `a` is there twice; remove one"),
            (
                &[("default.toml", "[a.b] # x\nc = 1\n\n[d]\nc = 1\n \"c\" = \"canary\"\n")],
                &[],
                "line 6: `c` is there twice in [d]; remove one",
            ),
            (
                &[("default.toml", "[a.b]\nc = 1\n[d]\n[a.b]\ne = 1\n")],
                &[],
                "line 4: the table [a.b] is there twice; make one of the two",
            ),
            (&[("default.toml", "[[a]]\nb = { c = 1 }\nb.d = 1\n")], &[], "not TOML: line 3"),
            (&[("default.yaml", "a: [\n")], &[], "not YAML"),
            (&[("default.yaml", "- 1\n")], &[], "expected tables"),
            (
                &[],
                &[("RISE_CONFIG_RUN_MODE", "production")],
                "neither `production.toml` nor `production.yaml` exists",
            ),
            (
                &[],
                &[("RISE_CONFIG_RUN_MODE", "../etc/passwd")],
                "`../etc/passwd` is not the name of a settings file",
            ),
        ];
        for (files, variables, expected) in cases {
            let problems = layers(files, variables).err().expect(expected);
            assert!(problems[0].to_string().contains(expected), "{problems:?}");
            assert!(!problems[0].to_string().contains("canary"), "{problems:?}");
        }
        assert!(load(Path::new("/nowhere/at/all"), &Environment::new()).is_err());
    }
}
