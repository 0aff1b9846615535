//! What lies in the folder of the providers and beside the lock, but is not loaded or not checked.

use std::fs;
use std::path::{Path, PathBuf};

use super::node::Problem;
use super::{ProvidersConfig, Require, Written};

/// More names than this are no help.
const MOST_NAMED: usize = 4;

pub(super) fn warnings(config: &ProvidersConfig, written: &Written) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |pointer: &str, message: Option<String>| {
        warnings.extend(message.map(|message| written.problem(pointer, message)));
    };
    let is_unchecked = !config.signing_keys.is_empty() && config.require != Require::Signed;
    warn(
        "/providers/signing_keys",
        is_unchecked.then(|| {
            "signatures are not checked without `require = \"signed\"` in [providers]; set it, or \
             remove the keys"
                .to_owned()
        }),
    );
    warn("/providers/lock_file", lock(config));
    warn("/providers/directory", strays(&config.directory));
    warnings
}

/// With `require = "locked"`, a missing lock is an error.
fn lock(config: &ProvidersConfig) -> Option<String> {
    let lock = &config.lock_file;
    if lock.exists() || config.require == Require::Locked {
        return None;
    }
    let shown = lock.display();
    if let Some(similar) = similar(lock) {
        return Some(format!(
            "{} is not read: the lock is {shown}; rename it, or set `lock_file`",
            similar.display()
        ));
    }
    config.lock_is_written.then(|| {
        format!(
            "{shown} does not exist, so it limits no provider; correct the path, or write the file \
             with `rise-broker provider lock`"
        )
    })
}

/// A file beside the lock that somebody could take for it.
fn similar(lock: &Path) -> Option<PathBuf> {
    let folder = lock.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?.flatten();
    let is_similar = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.to_ascii_lowercase();
        name.starts_with("provider") && name.contains(".lock")
    };
    entries.map(|entry| entry.path()).find(is_similar)
}

/// The `.wasm` files of the folder that the broker loads.
pub(super) fn providers(directory: &Path) -> Vec<PathBuf> {
    let is_loaded = |path: &PathBuf| path.extension().is_some_and(|end| end == "wasm");
    entries(directory).into_iter().filter(is_loaded).collect()
}

/// Files that look like providers, and are none by their name or place.
fn strays(directory: &Path) -> Option<String> {
    let mut strays = Vec::new();
    for path in entries(directory) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            strays.extend(providers(&path));
        } else if is_nearly(name) {
            strays.push(path);
        }
    }
    let named: Vec<String> =
        strays.iter().take(MOST_NAMED).map(|path| path.display().to_string()).collect();
    (!named.is_empty()).then(|| {
        format!(
            "not loaded: {}; a provider is a file directly in {} whose name ends in `.wasm`: \
             unpack, rename or move it",
            named.join(", "),
            directory.display()
        )
    })
}

/// Also with an end behind it, or in another case.
fn is_nearly(name: &str) -> bool {
    const BEHIND: [&str; 7] = ["", ".gz", ".zst", ".xz", ".bz2", ".zip", ".txt"];
    let lower = name.to_ascii_lowercase();
    let is_provider = name.strip_suffix(".wasm").is_some();
    !is_provider && BEHIND.iter().any(|end| lower.ends_with(&format!(".wasm{end}")))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    paths.truncate(1024);
    paths
}
