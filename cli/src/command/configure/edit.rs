//! One file of docker's form, its `credHelpers`, and what they were before.
//!
//! **Invariant:** a login that stands in the file is never shown.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::docker::ConfigFile;
use crate::failure::Failure;
use crate::files;

const OURS: &str = "rise";
const LONGEST: u64 = 4 * 1024 * 1024;
/// Unchanged lines that are shown around changed ones.
const CONTEXT: usize = 2;
/// Folders of registries that are looked at.
const FOLDERS: usize = 1_000;

pub(super) struct Edit {
    path: PathBuf,
    file: ConfigFile,
    before: Map<String, Value>,
}

impl Edit {
    pub(super) fn load(path: PathBuf) -> Result<Self, Failure> {
        let mut file = ConfigFile::load(path.clone())?;
        let before = file.json().clone();
        if before.get("credHelpers").is_some_and(|it| !it.is_object()) {
            return Err(Failure::Files(format!(
                "{}: its `credHelpers` is no object; it is left as it is",
                path.display()
            )));
        }
        Ok(Self { path, file, before })
    }

    /// Whether this is the registry's own file, as buildx has it.
    pub(super) fn is_below(&self, host: &str) -> bool {
        self.path.parent().and_then(Path::file_name).is_some_and(|it| it == host)
    }

    pub(super) fn ask_us_for(&mut self, hosts: &[String]) {
        let helpers = self.file.json().entry("credHelpers").or_insert_with(|| json!({}));
        if let Some(helpers) = helpers.as_object_mut() {
            helpers.extend(hosts.iter().map(|host| (host.clone(), OURS.into())));
        }
    }

    /// Each host that is asked of us is asked of whom it was before. Whatever else has changed since stays.
    pub(super) fn undo(&mut self) -> Result<(), Failure> {
        let backup = self.backup();
        let text = files::read(&backup, LONGEST)
            .map_err(|error| Failure::Files(format!("{}: {error}", backup.display())))?;
        let kept: Map<String, Value> =
            text.and_then(|it| serde_json::from_str(&it).ok()).unwrap_or_default();
        let kept = kept.get("credHelpers").and_then(Value::as_object);
        let json = self.file.json();
        let Some(helpers) = json.get_mut("credHelpers").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        helpers.retain(|host, helper| {
            if helper.as_str() == Some(OURS) {
                let Some(earlier) = kept.and_then(|it| it.get(host)) else { return false };
                *helper = earlier.clone();
            }
            true
        });
        if helpers.is_empty() && kept.is_none() {
            json.remove("credHelpers");
        }
        Ok(())
    }

    pub(super) fn is_change(&self) -> bool {
        self.file.entries() != &self.before
    }

    /// What is different, as `diff` writes it.
    pub(super) fn diff(&self) -> String {
        let (old, new) = (lines(&self.before), lines(self.file.entries()));
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

    /// Says what was done.
    pub(super) fn save(self, undo: bool) -> Result<String, Failure> {
        let (path, backup) = (self.path.display().to_string(), self.backup());
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Files(format!("{} cannot be written: {error}", backup.display()))
        };
        if undo {
            let _ = fs::remove_file(&backup);
            if self.file.entries().is_empty() {
                fs::remove_file(&self.path).map_err(|error| failed(&error))?;
                return Ok(format!("{path} held nothing else and is removed"));
            }
            self.file.save()?;
            return Ok(format!("{path} is as it was, but for what others changed"));
        }
        // The first one stays: it is what was there before us.
        let text = files::read(&self.path, LONGEST).map_err(|error| failed(&error))?;
        let kept = text.filter(|_| !backup.exists());
        if let Some(text) = &kept {
            files::write_private(&backup, text).map_err(|error| failed(&error))?;
        }
        self.file.save()?;
        let copy = if kept.is_some() {
            format!(", what was there is kept in {}", backup.display())
        } else {
            String::new()
        };
        Ok(format!("{path} is written{copy}; `--undo` takes it back"))
    }

    fn backup(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".before-rise");
        name.into()
    }
}

/// The files of all registries in buildx' folder.
pub(super) fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(FOLDERS);
    entries
        .filter_map(Result::ok)
        .map(|it| it.path().join("config.json"))
        .filter(|it| it.exists())
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
