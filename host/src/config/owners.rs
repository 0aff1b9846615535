//! Who owns the files that decide what the broker does: settings, lock and providers.
//!
//! A broker that an attacker has taken over must not be able to approve other code or other rules
//! for its next start. A developer's own broker owns everything, which is no mistake: there is a
//! warning only if the folder belongs to somebody else, or the broker's user is a service account.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Config;
use super::node::Problem;
use crate::user;

/// Service accounts have a smaller number on every common system.
const FIRST_PERSON: u32 = 1000;

/// `files`: settings files, by their paths.
pub(super) fn warnings(files: &[PathBuf], providers: &[PathBuf], config: &Config) -> Vec<Problem> {
    let broker = broker(&config.state_directory);
    let of_broker = |path: &Path, what: &str| {
        let owner = fs::metadata(path).ok()?.uid();
        let is_apart = folder_owner(path)? != owner || owner < FIRST_PERSON;
        (owner != 0 && Some(owner) == broker && is_apart).then(|| {
            let shown = path.display();
            format!(
                "{shown} belongs to the broker's user {}, who could change {what}; run `chown root \
                 {shown}`",
                user::name(owner)
            )
        })
    };
    let mut warnings = Vec::new();
    for file in files {
        let message = of_broker(file, "the rules and all settings");
        let source = file.display().to_string();
        warnings.extend(message.map(|message| Problem::new(&source, "", message)));
    }
    let lock = of_broker(&config.providers.lock_file, "which providers are approved");
    warnings.extend(lock.map(|message| config.written.problem("/providers/lock_file", message)));
    for file in providers {
        let message = of_broker(file, "the code that it runs").or_else(|| of_another(file, broker));
        warnings
            .extend(message.map(|message| config.written.problem("/providers/directory", message)));
    }
    warnings
}

/// A provider of a user who is neither root, nor the broker, nor the owner of its folder.
fn of_another(path: &Path, broker: Option<u32>) -> Option<String> {
    let owner = fs::metadata(path).ok()?.uid();
    let is_known = [Some(0), broker, Some(user::own_id()), folder_owner(path)];
    if is_known.contains(&Some(owner)) {
        return None;
    }
    let shown = path.display();
    Some(format!(
        "{shown} belongs to {}, who can replace the code that the broker runs; run `chown root \
         {shown}`",
        user::name(owner)
    ))
}

/// The user that the broker runs as, as far as this process can tell.
fn broker(state: &Path) -> Option<u32> {
    if user::own_id() != 0 {
        return Some(user::own_id());
    }
    fs::metadata(state).ok().map(|found| found.uid()).filter(|owner| *owner != 0)
}

fn folder_owner(path: &Path) -> Option<u32> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(fs::metadata(folder.unwrap_or(Path::new("."))).ok()?.uid())
}
