//! The broker's own folder: compiled code, audit records, keys.
//!
//! `serve` creates what is missing. `check` only looks, so that it leaves no folder behind of the
//! user who happened to run it.
//!
//! **Invariant:** the folder belongs to the broker's user, and nobody else can read or write it.
//! The compiled code in it runs as native code. The root of a Kubernetes volume with `fsGroup` can
//! be the folder, too, if others cannot enter it: what the broker creates in it is the broker's
//! alone. Whatever the mode of a root is, the folder can be inside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::files::{self, group};
use crate::user;

/// Returns the folder for compiled code inside `state`. Creates both if they are missing.
pub fn open(state: &Path, providers: &Path) -> Result<PathBuf, String> {
    let compiled = state.join("compiled");
    private(state).and_then(|()| private(&compiled))?;
    apart(state, providers)?;
    Ok(compiled)
}

/// The compiled code in the state folder must not be replaced by who may install providers.
fn apart(state: &Path, providers: &Path) -> Result<(), String> {
    let real = |path: &Path| {
        let existing = files::existing(path);
        let rest = path.strip_prefix(existing).unwrap_or(path);
        existing.canonicalize().ok().map(|existing| existing.join(rest))
    };
    let inside = |inner: &Path, outer: &Path| Some(real(inner)?.starts_with(real(outer)?));
    if inside(state, providers) == Some(true) || inside(providers, state) == Some(true) {
        return Err(
            "must be apart from `providers.directory`: one of the two lies inside the other"
                .to_owned(),
        );
    }
    Ok(())
}

/// Checks what [`open`] would find, and creates nothing. Returns the folder for compiled code, if
/// there is one that this process may use.
pub fn examine(state: &Path, providers: &Path) -> Result<Option<PathBuf>, String> {
    let compiled = state.join("compiled");
    let found = examine_private(state)?;
    apart(state, providers)?;
    if found != Existing::Own || examine_private(&compiled)? != Existing::Own {
        return Ok(None);
    }
    Ok(Some(compiled))
}

/// Whether a folder of the broker exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    No,
    Own,
    /// It is another user's, and root looks at it.
    OfBroker,
}

/// Checks what [`private`] would find, and creates nothing. Root may look at the folder of the
/// broker's user.
pub fn examine_private(directory: &Path) -> Result<Existing, String> {
    check_name(directory)?;
    let shown = directory.display();
    let cannot_create =
        |error: io::Error| format!("cannot create {shown}: {error}; {}", advice(&error));
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => Err(cannot_create(rustix::io::Errno::EXIST.into())),
        Ok(found) => {
            let is_of_broker = user::own_id() == 0 && found.uid() != 0;
            if !is_of_broker {
                check_owner(directory, &found)?;
            }
            check_mode(directory, &found)?;
            Ok(if is_of_broker { Existing::OfBroker } else { Existing::Own })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            files::may_create(directory).map_err(cannot_create).map(|()| Existing::No)
        }
        Err(error) => Err(cannot_create(error)),
    }
}

/// Creates `directory` with mode 0700, or checks that it belongs to the broker alone.
pub fn private(directory: &Path) -> Result<(), String> {
    check_name(directory)?;
    let shown = directory.display();
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(directory) {
        return Err(format!("cannot create {shown}: {error}; {}", advice(&error)));
    }
    let metadata = fs::metadata(directory)
        .map_err(|error| format!("cannot read the mode of {shown}: {error}"))?;
    check_owner(directory, &metadata)?;
    check_mode(directory, &metadata)?;
    if metadata.uid() == user::own_id() && group::is_of_volume(&metadata) {
        return group::close_folder(directory, &metadata)
            .map_err(|error| format!("{shown} cannot be closed to its group: {error}"));
    }
    Ok(())
}

/// Folders that other programs need as they are: a `chmod 700` of them breaks the machine.
const OF_THE_SYSTEM: [&str; 28] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/run/lock",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// Rejects what cannot be a folder of the broker's own, whatever its mode is.
fn check_name(directory: &Path) -> Result<(), String> {
    if directory.as_os_str().is_empty() {
        return Err(
            "is empty; name a folder of the broker's own, such as /var/lib/rise-broker; a variable \
             that is set to nothing has this effect, too"
                .to_owned(),
        );
    }
    let real = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    if OF_THE_SYSTEM.iter().any(|folder| real == Path::new(folder)) {
        return Err(format!(
            "{} is a folder of the system; name one of the broker's own, such as \
             /var/lib/rise-broker",
            directory.display()
        ));
    }
    Ok(())
}

fn check_owner(directory: &Path, found: &Metadata) -> Result<(), String> {
    if found.uid() == user::own_id() || group::is_root_of_volume(found) {
        return Ok(());
    }
    Err(belongs_to_another(directory, found.uid()))
}

fn check_mode(directory: &Path, found: &Metadata) -> Result<(), String> {
    if found.mode() & 0o077 != 0 && !group::is_of_volume(found) {
        let shown = directory.display();
        return Err(format!(
            "{shown} is open to other users (mode {:o}); close it with `chmod 700 {shown}`",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Which of the two users is the right one only the operator knows: the owner is not changed where
/// the command ran as the wrong one.
fn belongs_to_another(directory: &Path, owner: u32) -> String {
    let shown = directory.display();
    let (own, owner_name) = (user::own_name(), user::name(owner));
    let remedy = if user::own_id() == 0 {
        format!("run this command as {owner_name}, the broker's user, with `runuser -u`")
    } else if owner == 0 {
        format!(
            "if root created it by running a command of `rise-broker`, give it to the broker's \
             user with `chown`; if it is the root of a mounted volume, name a folder inside it, \
             such as {shown}/state, which the broker creates"
        )
    } else {
        format!(
            "run this command as {owner_name}, if that is the broker's user, or name another folder"
        )
    };
    format!("{shown} belongs to {owner_name}, but this process runs as {own}; {remedy}")
}

/// What helps against an error of writing a file.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return "the disk is full, so make room on it";
    }
    if error.kind() == ErrorKind::ReadOnlyFilesystem {
        return "the disk can only be read; mount it for writing, or name a folder on another disk";
    }
    "name a folder that the broker's user can write"
}

/// The folder for compiled code of commands without settings: `$XDG_CACHE_HOME/rise-broker`, the
/// user's own.
pub fn user_cache(environment: &BTreeMap<OsString, OsString>) -> Result<PathBuf, String> {
    let variable =
        |name: &str| environment.get(&OsString::from(name)).filter(|value| !value.is_empty());
    let home = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let home = home.ok_or("set HOME or XDG_CACHE_HOME: compiled code is kept there")?;
    let cache = home.join("rise-broker").join("compiled");
    private(&home.join("rise-broker")).and_then(|()| private(&cache))?;
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_ours_alone() {
        let root = tempfile::tempdir().unwrap();
        let (state, providers) = (root.path().join("state"), root.path().join("providers"));
        fs::create_dir(&providers).unwrap();
        open(&state, &providers).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        assert!(open(&providers.join("state"), &providers).unwrap_err().contains("apart from"));
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(open(&state, &providers).unwrap_err().contains("chmod 700"));
    }
}
