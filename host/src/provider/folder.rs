//! The providers' folder: its files, and whether somebody is still writing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::ProvidersConfig;
use crate::config::node::Problem;

/// The remedy for a folder without providers.
pub(super) const INSTALL: &str = "copy the `.wasm` files of the release there, or correct \
    `providers.directory` (in a clone of the repository: `make providers`)";

/// More files than this in the folder must be a mistake.
const MAX_FILES: usize = 256;
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// The longest wait. A file that never stops changing must not delay the others.
const LOOKS: usize = 50;
/// A provider that has not changed for one look counts as complete. If it is not, loading it fails.
const PROVIDER_LOOKS: usize = 1;
/// Half of a settings file may be valid settings, so they must not have changed for two seconds.
const SETTINGS_LOOKS: usize = 10;

/// The facts that change when a file, or the target of a link, changes. Times alone are not enough:
/// anybody can set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([u64; 7]);

/// `None`: the file cannot be read, for example because it is a link to nowhere.
pub type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Returns the `*.wasm` files of the folder, sorted by name.
pub(super) fn list(config: &ProvidersConfig) -> Result<Vec<PathBuf>, Problem> {
    let directory = config.directory.display();
    let problem = |message: String| Problem::at(&config.origin, "providers.directory", message);
    let entries = fs::read_dir(&config.directory)
        .map_err(|error| problem(format!("cannot read `{directory}`: {error}; {INSTALL}")))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .filter(|path| {
            !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        })
        .collect();
    files.sort();
    if files.len() > MAX_FILES {
        return Err(problem(format!("more than {MAX_FILES} providers are in `{directory}`")));
    }
    Ok(files)
}

pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    let [modified, modified_nanos, changed, changed_nanos] = times.map(i64::cast_unsigned);
    let (device, inode, size) = (file.dev(), file.ino(), file.size());
    Some(Stamp([device, inode, size, modified, modified_nanos, changed, changed_nanos]))
}

/// The state of every provider and signature.
pub(crate) fn stamps(config: &ProvidersConfig) -> Stamps {
    let files = list(config).unwrap_or_default();
    let signature = |file: &PathBuf| {
        let mut name = file.clone().into_os_string();
        name.push(".minisig");
        PathBuf::from(name)
    };
    let all = files.iter().cloned().chain(files.iter().map(signature));
    all.map(|path| (path.clone(), stamp(&path))).collect()
}

/// Waits until nobody writes providers. Returns the files that somebody writes without end.
pub(crate) async fn settled(config: &ProvidersConfig) -> (Stamps, BTreeSet<PathBuf>) {
    still(|| stamps(config), PROVIDER_LOOKS).await
}

/// The same for the settings, whose stamps `look` returns.
pub(crate) async fn settled_settings(look: impl Fn() -> Stamps) -> (Stamps, BTreeSet<PathBuf>) {
    still(look, SETTINGS_LOOKS).await
}

/// Waits until nothing has changed for so many looks.
async fn still(look: impl Fn() -> Stamps, looks: usize) -> (Stamps, BTreeSet<PathBuf>) {
    let (mut before, mut restless, mut quiet) = (look(), BTreeSet::new(), 0);
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = look();
        let changed: BTreeSet<PathBuf> = now
            .iter()
            .filter(|(path, stamp)| before.get(*path) != Some(stamp))
            .map(|(path, _)| path.clone())
            .collect();
        // A file that is gone is a change too, and no file that could be named.
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        if quiet >= looks {
            return (before, BTreeSet::new());
        }
        if !changed.is_empty() {
            restless = changed;
        }
    }
    (before, restless)
}
