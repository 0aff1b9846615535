//! Access by a group, as Kubernetes gives it to volumes with `fsGroup`: folders are setgid, and the
//! kubelet opens everything in them to the group at each mount. Only containers of the pod have
//! that group.
//!
//! Who else has the group, on a machine without Kubernetes, is decided by whoever set the group and
//! the setgid bit on the folder.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const OTHERS: u32 = 0o007;
const GROUP: u32 = 0o070;
const GROUP_CHANGES: u32 = 0o030;
const SETGID: u32 = 0o2000;

/// Whether it is a folder of such a volume, and this process has its group.
pub(crate) fn is_of_volume(folder: &Metadata) -> bool {
    folder.mode() & (SETGID | OTHERS) == SETGID && is_own(folder.gid())
}

/// Whether it is the root of such a volume: root's, and the group may write.
pub(crate) fn is_root_of_volume(folder: &Metadata) -> bool {
    folder.uid() == 0 && folder.mode() & GROUP == GROUP && is_of_volume(folder)
}

/// Closes a folder of this user that the kubelet has opened to the group.
pub(crate) fn close_folder(path: &Path, found: &Metadata) -> io::Result<()> {
    if found.mode() & GROUP == 0 {
        return Ok(());
    }
    tracing::warn!(folder = %path.display(), "closed to the group of its volume");
    std::fs::set_permissions(path, Permissions::from_mode(SETGID | 0o700))
}

/// Whether a secret file that its group can read is as safe as one that it cannot. A file of a
/// Secret volume is root's, and the group only reads it. A file of this user that the kubelet has
/// opened is closed again.
pub(crate) fn is_secret(path: &Path, file: &File, found: &Metadata) -> io::Result<bool> {
    if found.mode() & OTHERS != 0 || !is_own(found.gid()) {
        return Ok(false);
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() == 0 && own != 0 {
        return Ok(found.mode() & GROUP_CHANGES == 0);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).metadata()?;
    if found.uid() != own || folder.gid() != found.gid() || !is_of_volume(&folder) {
        return Ok(false);
    }
    tracing::warn!(file = %path.display(), "closed to the group of its volume");
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(true)
}

fn is_own(group: u32) -> bool {
    let groups = rustix::process::getgroups().unwrap_or_default();
    let own = [rustix::process::getegid()];
    own.into_iter().chain(groups).any(|own| own.as_raw() == group)
}
