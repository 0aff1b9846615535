//! `providers.lock`: the providers that an operator has reviewed, by digest, and what each may
//! import.
//!
//! The lock lies beside the settings and not in the providers' folder: somebody who may write there
//! must not approve what lies there. For the same reason root writes it, and the broker's user only
//! reads it: a broker that is taken over cannot approve other code for its next start.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize;

use crate::files;

/// Enough for 256 providers.
const MAX_FILE: u64 = 1 << 20;

/// Sorted by the providers' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    #[serde(default)]
    pub providers: Vec<Locked>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    pub name: String,
    pub version: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// The capabilities that it may import.
    pub capabilities: Vec<String>,
}

impl Locked {
    /// The capabilities of `other` that this provider does not have.
    pub(crate) fn missing<'a>(&self, other: &'a Self) -> impl Iterator<Item = &'a String> {
        other.capabilities.iter().filter(|name| !self.capabilities.contains(name))
    }
}

impl Lock {
    /// Reads a lock. Returns `None` if there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, String> {
        let text = match files::read_text(path, MAX_FILE) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot be read: {error}")),
        };
        let lock: Self = toml::from_str(&text)
            .map_err(|error| format!("not a lock file: {}", error.message()))?;
        let is_digest = |locked: &Locked| {
            locked.sha256.len() == 64 && locked.sha256.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        match lock.providers.iter().find(|locked| !is_digest(locked)) {
            Some(wrong) => Err(format!("`sha256` of `{}` is not 64 hex digits", wrong.name)),
            None => Ok(Some(lock)),
        }
    }

    pub fn find(&self, digest: &str) -> Option<&Locked> {
        self.providers.iter().find(|locked| locked.sha256.eq_ignore_ascii_case(digest))
    }

    pub fn named(&self, name: &str) -> Option<&Locked> {
        self.providers.iter().find(|locked| locked.name == name)
    }

    /// Replaces the file atomically: after a crash, the file is the old one or the new one.
    pub fn store(&self, path: &Path) -> std::io::Result<()> {
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        // The lock is no secret, and the broker, which is another user than its owner, reads it.
        let written = file
            .set_permissions(Permissions::from_mode(0o644))
            .and_then(|()| file.write_all(self.text().as_bytes()))
            .and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn text(&self) -> String {
        // Every JSON string is also a TOML string.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut out = "# Written by `rise-broker provider lock`. \
             With `require = \"locked\"` nothing else is loaded.\n"
            .to_owned();
        for Locked { name, version, sha256, capabilities } in &self.providers {
            let capabilities: Vec<String> = capabilities.iter().map(|name| quoted(name)).collect();
            let _ = write!(
                out,
                "\n[[providers]]\nname = {}\nversion = {}\nsha256 = {}\ncapabilities = [{}]\n",
                quoted(name),
                quoted(version),
                quoted(sha256),
                capabilities.join(", ")
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(name: &str, version: &str) -> Locked {
        let capabilities = ["log", "aws"].map(str::to_owned).to_vec();
        Locked {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: "0a".repeat(32),
            capabilities,
        }
    }

    #[test]
    fn what_is_stored_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("providers.lock");
        assert_eq!(Lock::load(&path), Ok(None));
        let lock =
            Lock { providers: vec![locked("ecr", "1.0 \"quoted\" \\ é"), locked("oci", "")] };
        lock.store(&path).unwrap();
        assert_eq!(Lock::load(&path), Ok(Some(lock.clone())));
        assert_eq!(lock.find(&"0A".repeat(32)).unwrap().name, "ecr");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays behind");
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("providers.lock");
        for (text, expected) in [
            ("providers = 1", "not a lock file"),
            ("[[providers]]\nname = \"a\"", "not a lock file"),
            (
                "[[providers]]\nname = \"a\"\nversion = \"\"\nsha256 = \"ab\"\ncapabilities = []",
                "64 hex digits",
            ),
            (
                "[[providers]]\nname = \"a\"\nversion = \"\"\nsha256 = \"ab\"\ncapabilities = \
                []\nallow = true",
                "unknown field",
            ),
        ] {
            fs::write(&path, text).unwrap();
            assert!(Lock::load(&path).unwrap_err().contains(expected), "{text}");
        }
    }
}
