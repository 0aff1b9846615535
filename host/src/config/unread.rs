//! Files and variables that look like settings and are not read. Each gets a warning: an operator
//! may believe that a push is closed by a file that the broker ignores.

use std::ffi::OsString;
use std::path::Path;

use super::layers::Environment;
use super::node::Problem;
use super::run_mode::{self, FILE, VARIABLE, is_mode};

/// The top-level tables of the settings.
const TABLES: [&str; 10] = [
    "server",
    "providers",
    "registries",
    "registry",
    "auth",
    "rules",
    "audit",
    "cache",
    "log",
    "limits",
];

/// Ends of copies that nobody expects to be read. The last four are those of packages' managers,
/// such as `default.toml.dpkg-dist`.
const COPIES: [&str; 16] = [
    "bak", "backup", "old", "orig", "save", "rej", "example", "sample", "template", "disabled",
    "dist", "tmp", "dpkg", "ucf", "rpm", "pac",
];

/// Returns a problem for each entry of the folder that looks like a layer and is none.
pub(super) fn files(directory: &Path, environment: &Environment) -> Vec<Problem> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<OsString> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.sort();
    let mode = run_mode::find(directory, environment).ok().flatten().map(|mode| mode.name);
    let problem = |name: &OsString| {
        let reason = unread(name.to_str()?, mode.as_deref())?;
        Some(Problem::new(&directory.join(name).display().to_string(), "", reason))
    };
    let overridden = run_mode::overridden(directory, environment);
    names.iter().filter_map(problem).chain(overridden).collect()
}

/// Why this file is not read, if somebody could expect that it is.
fn unread(name: &str, mode: Option<&str>) -> Option<String> {
    let is_hidden = name.starts_with(['.', '#']) || name.ends_with('~');
    let (stem, end) = name.split_once('.').unwrap_or((name, ""));
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    if is_hidden || COPIES.iter().any(|copy| last.starts_with(copy) || end.starts_with(copy)) {
        return None;
    }
    let is_read = matches!(end, "toml" | "yaml");
    let layers = ["default", "local"].into_iter().chain(mode);
    if let Some(layer) = layers.into_iter().find(|layer| stem.eq_ignore_ascii_case(layer)) {
        let is_layer = is_read && stem == layer;
        return (!is_layer).then(|| {
            format!("is not read; rename it to `{layer}.toml` or `{layer}.yaml`, or remove it")
        });
    }
    if !matches!(end.to_ascii_lowercase().as_str(), "toml" | "yaml" | "yml") {
        return None;
    }
    if TABLES.contains(&stem) {
        let mode = mode.map(|mode| format!("`{mode}`, ")).unwrap_or_default();
        return Some(format!(
            "is not read: the layers are `default`, {mode}and `local`; move its settings into one \
             of them"
        ));
    }
    // With a run mode, the files of other modes are as they should be.
    if mode.is_some() || !is_mode(stem) {
        return None;
    }
    let rename = if is_read { "" } else { " and rename it to end in `.yaml`" };
    Some(format!(
        "is not read, because there is no run mode; write `{stem}` into the file `{FILE}` beside \
         it, or set {VARIABLE}={stem}{rename}"
    ))
}

/// Returns these problems as one text, if there are any.
pub(super) fn joined(files: &[Problem]) -> Option<String> {
    let texts: Vec<String> =
        files.iter().map(|file| format!("{} {}", file.source, file.message)).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// Returns a problem for each variable that looks like a setting and is none.
pub(super) fn variables(environment: &Environment) -> Vec<Problem> {
    let names = environment.keys().filter_map(|name| name.to_str());
    let problem = |name: &str| {
        let is_table = name.strip_prefix("RISE_").is_some_and(|table| {
            TABLES.contains(&table.to_ascii_lowercase().as_str()) && table != "REGISTRY"
        });
        let message = if is_table {
            "is not read: a variable sets one value, such as RISE_SERVER__LISTEN; write a table or \
             a list into a file"
                .to_owned()
        } else {
            format!("is not read; if {} is meant, rename it", meant(name)?)
        };
        Some(Problem::new(&format!("the variable {name}"), "", message))
    };
    names.filter_map(problem).collect()
}

/// The variable that somebody probably meant by `name`, which the broker does not read.
fn meant(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    if upper != name && upper.starts_with("RISE_") && upper.contains("__") {
        let table = upper.trim_start_matches("RISE_").split("__").next().unwrap_or_default();
        return TABLES.contains(&table.to_ascii_lowercase().as_str()).then_some(upper);
    }
    let rest = name.strip_prefix("RISE_").filter(|rest| !rest.contains("__"))?;
    if name != VARIABLE && rest.ends_with("RUN_MODE") {
        return Some(VARIABLE.to_owned());
    }
    // Kubernetes sets these for a service of this name.
    let is_link = |key: &str| key.starts_with("SERVICE_") || key.starts_with("PORT");
    TABLES.iter().find_map(|table| {
        let table = table.to_ascii_uppercase();
        let key = rest.strip_prefix(&table)?.strip_prefix('_')?;
        // Each registry is a table of its own.
        let key = match key.split_once('_') {
            Some((name, key)) if table == "REGISTRIES" => format!("{name}__{key}"),
            _ => key.to_owned(),
        };
        (!key.is_empty() && !is_link(&key)).then(|| format!("RISE_{table}__{key}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_a_layer_are_found() {
        for (name, mode, expected) in [
            ("default.toml", None, None),
            ("local.yaml", None, None),
            ("local.yml", None, Some("rename it to `local.toml`")),
            ("Local.toml", None, Some("rename it to `local.toml`")),
            ("local.tml", None, Some("rename it to `local.toml`")),
            ("local.toml.txt", None, Some("rename it to `local.toml`")),
            ("local.json", None, Some("rename it to `local.toml`")),
            ("local", None, Some("rename it to `local.toml`")),
            ("local.d", None, Some("rename it to `local.toml`")),
            ("local.toml~", None, None),
            (".local.toml.swp", None, None),
            ("local.toml.bak", None, None),
            ("local.toml.example", None, None),
            ("production.example.toml", None, None),
            ("production.toml", None, Some("set RISE_CONFIG_RUN_MODE=production")),
            ("production.yml", None, Some("end in `.yaml`")),
            ("production.toml", Some("production"), None),
            ("production.yml", Some("production"), Some("rename it to `production.toml`")),
            ("PRODUCTION.toml", Some("production"), Some("rename it to `production.toml`")),
            ("staging.toml", Some("production"), None),
            ("rules.toml", Some("production"), Some("`default`, `production`, and `local`")),
            ("rules.yaml", None, Some("`default`, and `local`")),
            ("providers.lock", None, None),
            ("run-mode", None, None),
            ("tls.crt", None, None),
        ] {
            let found = unread(name, mode);
            match expected {
                Some(part) => {
                    let found = found.unwrap_or_else(|| panic!("{name} {mode:?} is not found"));
                    assert!(found.contains(part), "{name} {mode:?}: {found}");
                }
                None => assert_eq!(found, None, "{name} {mode:?}"),
            }
        }
    }

    #[test]
    fn variables_with_one_underscore_are_found() {
        for (name, expected) in [
            ("RISE_SERVER_LISTEN", Some("RISE_SERVER__LISTEN")),
            ("RISE_REGISTRIES_PROD_REGION", Some("RISE_REGISTRIES__PROD__REGION")),
            ("RISE_RUN_MODE", Some("RISE_CONFIG_RUN_MODE")),
            ("RISE_CONFIG_RUN_MODE", None),
            ("RISE_SERVER__LISTEN", None),
            ("RISE_REGISTRY", None),
            ("RISE_TOKEN", None),
            ("RISE_REGISTRY_SERVICE_HOST", None),
            ("RISE_REGISTRY_PORT_3000_TCP", None),
        ] {
            assert_eq!(meant(name).as_deref(), expected, "{name}");
        }
    }
}
