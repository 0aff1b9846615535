//! Files and folders that more users can write or read than should.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::interpolate::SecretFile;
use super::node::Problem;
use super::{Config, TlsFile, installed, owners};
use crate::identity::{DiscoverySettings, KeyOrigin};

const SHARED_WRITE: u32 = 0o002;
const SHARED_READ: u32 = 0o004;
/// On a folder: each file in it can be removed only by its owner.
const STICKY: u32 = 0o1000;

/// Warnings about what every user of this machine can change, and about keys that they can read.
pub(super) fn warnings(directory: &Path, config: &Config) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn = |pointer: &str, message: Option<String>| {
        warnings.extend(message.map(|message| config.written.problem(pointer, message)));
    };
    warn("", writable(directory, "the settings decide who gets credentials"));
    let files = settings_files(directory);
    let providers = &config.providers;
    warn(
        "/providers/directory",
        writable(&providers.directory, "its files are the code that the broker runs"),
    );
    warn("/providers/lock_file", writable(&providers.lock_file, "it approves providers"));
    let installed = installed::providers(&providers.directory);
    for file in &installed {
        warn("/providers/directory", writable(file, "it is code that the broker runs"));
    }
    for (index, issuer) in config.identity.issuers.iter().enumerate() {
        match &issuer.keys {
            KeyOrigin::Local { key_file } => warn("/auth/issuers", replaceable(key_file)),
            KeyOrigin::Discovery(DiscoverySettings { bearer_file: Some(path), .. }) => {
                warn(&format!("/auth/issuers/{index}/bearer_file"), exposed(path));
            }
            KeyOrigin::Discovery(_) | KeyOrigin::JwksFile { .. } => {}
        }
    }
    if let Some(TlsFile { key_file, certificate_file }) = &config.tls {
        warn("/server/tls/key_file", replaceable(key_file));
        warn("/server/tls/key_file", exposed(key_file));
        let is_for_callers = "callers would trust another certificate";
        warn("/server/tls/certificate_file", writable(certificate_file, is_for_callers));
    }
    for file in &files {
        let message = writable(file, "the settings decide who gets credentials");
        let alone = is_mount(file).then(|| {
            "is mounted by itself (`subPath` in Kubernetes, `-v FILE:FILE` in Docker), so that \
             later versions of it do not arrive here; mount its folder"
                .to_owned()
        });
        let source = file.display().to_string();
        let messages = message.into_iter().chain(alone);
        warnings.extend(messages.map(|message| Problem::new(&source, "", message)));
    }
    warnings.extend(owners::warnings(&files, &installed, config));
    warnings
}

/// Every file in the folder that could be a layer.
fn settings_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_layer =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "toml" || end == "yaml");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_layer).collect();
    files.sort();
    files
}

/// The problem with a key in a folder where every user can exchange it.
fn replaceable(key: &Path) -> Option<String> {
    let folder = key.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    writable(folder, &format!("can exchange the key {} in it", key.display()))
}

/// The problem with a file or folder that every user can write.
fn writable(path: &Path, because: &str) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode() & 0o7777;
    if mode & SHARED_WRITE == 0 || mode & STICKY != 0 {
        return None;
    }
    let shown = path.display();
    Some(format!(
        "every user can write {shown} (mode {mode:o}), and {because}; run `chmod o-w {shown}`"
    ))
}

/// Warnings about the files of `${file:…}` that every user can read.
pub(super) fn of_secrets(files: &[SecretFile]) -> impl Iterator<Item = Problem> {
    files.iter().filter_map(|file| Some(file.problem(exposed(&file.path)?)))
}

/// The same as [`readable`], for a file that may be mounted. What Docker or the kubelet mounts is
/// only in this container, where it often has mode 644.
fn exposed(path: &Path) -> Option<String> {
    let is_mounted = || is_of_kubelet(path) || is_mount(path);
    let problem = readable(path).filter(|_| !is_mounted())?;
    Some(format!("{problem}, and before that `chgrp`, if the broker's user does not own it"))
}

/// Files of the kubelet's volumes lie behind a link to a folder such as `..2026_05_04_10_11_12`.
fn is_of_kubelet(path: &Path) -> bool {
    let real = path.canonicalize().unwrap_or_default();
    real.iter().any(|name| name.as_encoded_bytes().starts_with(b".."))
}

/// Whether the file is mounted by itself.
fn is_mount(path: &Path) -> bool {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The problem with a secret file that every user can reach and read.
pub fn readable(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode() & 0o7777;
    if mode & (SHARED_READ | SHARED_WRITE) == 0 || !is_reachable(path) {
        return None;
    }
    let shown = path.display();
    Some(format!("every user can read {shown} (mode {mode:o}); run `chmod o-rwx {shown}`"))
}

/// Whether other users may enter every folder above the file.
fn is_reachable(path: &Path) -> bool {
    let path: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_open =
        |folder: &Path| fs::metadata(folder).map_or(true, |metadata| metadata.mode() & 0o001 != 0);
    path.ancestors().skip(1).all(is_open)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_closed_folder_holds_is_not_readable() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("key");
        fs::write(&file, "x").unwrap();
        let modes = |folder: u32, mode: u32| {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(folder)).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            (readable(&file).is_some(), writable(&file, "").is_some())
        };
        assert_eq!(modes(0o700, 0o644), (false, false));
        assert_eq!(modes(0o755, 0o640), (false, false));
        assert_eq!(modes(0o755, 0o644), (true, false));
        assert_eq!(modes(0o755, 0o666), (true, true));
    }
}
