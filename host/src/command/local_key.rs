//! Remembers in the state folder which key file the issuer `local` has used.
//!
//! A key file that is missing may be new or lost. `token` creates a new one, and refuses to replace
//! a lost one: the running broker would reject what the new key signs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::files;
use crate::identity::KeyOrigin;

const FILE: &str = "issuer-key-file";
const LARGEST_FILE: u64 = 8 << 10;

/// Notes that `key_file` exists and is in use. A failure costs this help only.
pub(super) fn remember(state: &Path, key_file: &Path) {
    let Some(key_file) = whole(key_file) else { return };
    let Some(text) = key_file.to_str() else { return };
    if remembered(state).as_ref() == Some(&key_file) || !state.is_dir() {
        return;
    }
    let draft = state.join(format!(".{FILE}.draft"));
    let _ = fs::write(&draft, text).and_then(|()| fs::rename(draft, state.join(FILE)));
}

/// Does the same for the issuer in these settings.
pub(super) fn remember_in(config: &Config) {
    if let Some(key_file) = of(config) {
        remember(&config.state_directory, key_file);
    }
}

/// Whether this key was used and is not there any more.
pub(super) fn is_gone(state: &Path, key_file: &Path) -> bool {
    !key_file.exists() && remembered(state).is_some_and(|known| Some(known) == whole(key_file))
}

fn whole(key_file: &Path) -> Option<PathBuf> {
    std::path::absolute(key_file).ok()
}

fn remembered(state: &Path) -> Option<PathBuf> {
    files::read_text(&state.join(FILE), LARGEST_FILE).ok().map(PathBuf::from)
}

fn of(config: &Config) -> Option<&Path> {
    config.identity.issuers.iter().find_map(|issuer| match &issuer.keys {
        KeyOrigin::Local { key_file } => Some(key_file.as_path()),
        KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. } => None,
    })
}
