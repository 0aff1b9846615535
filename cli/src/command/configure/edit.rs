//! A change of `credHelpers` in one file of docker's form, and a copy of the file for undoing it.
//!
//! **Invariant:** logins in the file are never printed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::docker::{ConfigFile, HELPER};
use crate::failure::Failure;
use crate::{files, names};

const LONGEST: u64 = 4 * 1024 * 1024;
/// Unchanged lines that the diff shows around changed ones.
const CONTEXT: usize = 2;
/// The most folders of registries that are examined.
const FOLDERS: usize = 1_000;

pub(super) struct Edit {
    path: PathBuf,
    file: ConfigFile,
    before: Map<String, Value>,
    after: Map<String, Value>,
    change: Change,
}

/// What happens to `credHelpers`.
enum Change {
    Set(Vec<String>),
    /// The earlier helpers, if the file had some.
    Undo(Option<Map<String, Value>>),
}

impl Edit {
    /// Makes clients ask `docker-credential-rise` for the hosts.
    pub(super) fn set_helper_for(hosts: Vec<String>, path: PathBuf) -> Result<Self, Failure> {
        Self::new(path, Change::Set(hosts))
    }

    /// Restores the earlier helper of each host that names `docker-credential-rise`. Other changes
    /// that were made since then stay.
    pub(super) fn undo(path: PathBuf) -> Result<Self, Failure> {
        let backup = backup_of(&path);
        let text = files::read(&backup, LONGEST)
            .map_err(|error| Failure::Files(format!("{}: {error}", backup.display())))?;
        let earlier: Option<Map<String, Value>> =
            text.and_then(|text| serde_json::from_str(&text).ok());
        let helpers = earlier.and_then(|json| json.get("credHelpers")?.as_object().cloned());
        Self::new(path, Change::Undo(helpers))
    }

    fn new(path: PathBuf, change: Change) -> Result<Self, Failure> {
        let file = ConfigFile::load(path.clone())?;
        let before = file.entries().clone();
        if before.get("credHelpers").is_some_and(|helpers| !helpers.is_object()) {
            return Err(Failure::Files(format!(
                "{}: its `credHelpers` is not an object; the file is unchanged",
                path.display()
            )));
        }
        let mut after = before.clone();
        change.apply(&mut after);
        Ok(Self { path, file, before, after, change })
    }

    pub(super) fn is_change(&self) -> bool {
        self.after != self.before
    }

    /// The difference in the form of `diff`.
    pub(super) fn diff(&self) -> String {
        let (old, new) = (lines(&self.before), lines(&self.after));
        let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let left = old.len().min(new.len()) - same;
        let ends = old.iter().rev().zip(new.iter().rev());
        let after = ends.take(left).take_while(|(old, new)| old == new).count();
        let path = self.path.display();
        let mut text = format!("--- {path}\n+++ {path}\n");
        let mut add = |mark: char, some: &[String], skip: usize, take: usize| {
            for line in some.iter().skip(skip).take(take) {
                text.push(mark);
                text.push_str(line);
                text.push('\n');
            }
        };
        let first = same.saturating_sub(CONTEXT);
        add(' ', &old, first, same - first);
        add('-', &old, same, old.len() - after - same);
        add('+', &new, same, new.len() - after - same);
        add(' ', &old, old.len() - after, CONTEXT.min(after));
        text
    }

    /// Writes the file and returns a line that describes the change.
    pub(super) fn save(mut self) -> Result<String, Failure> {
        let (path, backup) = (self.path.display().to_string(), backup_of(&self.path));
        if matches!(self.change, Change::Undo(_)) {
            self.file.update(|json| self.change.apply(json))?;
            let _ = fs::remove_file(&backup);
            return Ok(if self.file.entries().is_empty() {
                format!("{path} was removed, because it had no other content")
            } else {
                format!("{path} was restored; changes by others were kept")
            });
        }
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Files(format!("{} cannot be written: {error}", backup.display()))
        };
        // The first copy stays, because it shows the file before any change of ours.
        let text = files::read(&self.path, LONGEST).map_err(|error| failed(&error))?;
        let kept = text.filter(|_| !backup.exists());
        if let Some(text) = &kept {
            files::write_like(&self.path, &backup, text).map_err(|error| failed(&error))?;
        }
        self.file.update(|json| self.change.apply(json))?;
        let copy = if kept.is_some() {
            format!(", and a copy of the earlier file was kept in {}", backup.display())
        } else {
            String::new()
        };
        Ok(format!("{path} was written{copy}; `--undo` undoes this"))
    }
}

impl Change {
    fn apply(&self, json: &mut Map<String, Value>) {
        match self {
            Self::Set(hosts) => {
                let helpers = json.entry("credHelpers").or_insert_with(|| json!({}));
                if let Some(helpers) = helpers.as_object_mut() {
                    helpers.extend(hosts.iter().map(|host| (host.clone(), HELPER.into())));
                }
            }
            Self::Undo(earlier) => undo(json, earlier.as_ref()),
        }
    }
}

fn undo(json: &mut Map<String, Value>, earlier: Option<&Map<String, Value>>) {
    let Some(helpers) = json.get_mut("credHelpers").and_then(Value::as_object_mut) else {
        return;
    };
    helpers.retain(|host, helper| {
        if helper.as_str() == Some(HELPER) {
            let Some(earlier) = earlier.and_then(|helpers| helpers.get(host)) else {
                return false;
            };
            *helper = earlier.clone();
        }
        true
    });
    if helpers.is_empty() && earlier.is_none() {
        json.remove("credHelpers");
    }
}

fn backup_of(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".before-rise");
    name.into()
}

/// Whether this file is in the folder that buildx has for the registry.
pub(super) fn is_below(path: &Path, host: &str) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == names::api_host(host))
}

/// The files of all registries in the folder of buildx.
pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(FOLDERS);
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("config.json"))
        .filter(|path| path.exists())
        .collect()
}

fn lines(json: &Map<String, Value>) -> Vec<String> {
    let mut shown = json.clone();
    for name in ["auths", "HttpHeaders", "proxies"] {
        if let Some(value) = shown.get_mut(name) {
            hide(value);
        }
    }
    let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) | Value::String(_) | Value::Array(_) => *value = "[hidden]".into(),
    }
}
