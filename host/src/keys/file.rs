//! A file that holds a private key: for its owner alone, and never half written.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::KeyFileError;
use crate::{files, user};

/// The content of the file, of at most `limit` bytes; `None` if there is no such file. `format` is
/// the error of a file that cannot be a key.
pub(super) fn read(
    path: &Path,
    limit: u64,
    format: impl Fn() -> KeyFileError,
) -> Result<Option<Zeroizing<String>>, KeyFileError> {
    let unreadable = |source| KeyFileError::Io { path: path.to_owned(), act: "read", source };
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // The checks apply to the open file, not to its name: what was checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.len() > limit {
        return Err(format());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 && !files::group::is_secret(path, &file, &metadata).map_err(unreadable)? {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    if !is_trusted(path, &metadata).map_err(unreadable)? {
        return Err(KeyFileError::Foreign { path: path.to_owned(), owner: metadata.uid() });
    }
    // As large as it may become: a buffer that grows leaves copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(limit).unwrap_or(0).saturating_add(1),
    ));
    file.take(limit).read_to_string(&mut text).map_err(|_| format())?;
    Ok(Some(text))
}

/// Whether nobody but this user and root can have written the key: another user who owns the file
/// knows it. Root may look at the broker's files, whose folder has the same owner.
fn is_trusted(path: &Path, found: &Metadata) -> io::Result<bool> {
    let (owner, own) = (found.uid(), user::own_id());
    if owner == own || owner == 0 {
        return Ok(true);
    }
    Ok(own == 0 && folder_of(path).metadata()?.uid() == owner)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether the file could be made.
pub(super) fn may_create(path: &Path) -> Result<(), KeyFileError> {
    files::may_create(path).map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        act: "created",
        source,
    })
}

/// Makes the file with this content and reads it back. If another process makes the file at the
/// same time, both get the content of the one that was first.
pub(super) fn create(
    path: &Path,
    content: &str,
    limit: u64,
    format: impl Fn() -> KeyFileError,
) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |act| move |source| KeyFileError::Io { path: path.to_owned(), act, source };
    install(path, content).map_err(io("created"))?;
    let gone = || io("read")(io::ErrorKind::NotFound.into());
    read(path, limit, format)?.ok_or_else(gone)
}

/// Writes beside `path` and links the file there. A link, like `O_EXCL`, fails where something is
/// already; unlike with `O_EXCL`, nobody ever sees half a key.
fn install(path: &Path, content: &str) -> io::Result<()> {
    let folder = folder_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
    let draft = folder.join(format!(".key-{:016x}.draft", u64::from_ne_bytes(random)));
    let installed = write(&draft, content).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    // Also after a failure, so that no key is left lying about.
    let removed = fs::remove_file(&draft);
    installed?;
    removed?;
    File::open(folder)?.sync_all()
}

/// Keeps other processes from replacing files of this folder until it is dropped.
pub(super) struct FolderLock(#[expect(dead_code, reason = "the lock ends with it")] File);

/// Locks the folder of `path`. `WouldBlock`: another process has locked it.
pub(super) fn lock(path: &Path) -> io::Result<FolderLock> {
    let folder = File::open(folder_of(path))?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(FolderLock(folder))
}

/// Replaces the whole file. A reader gets the old content or the new one, also after a power cut.
/// The file keeps its owner if root replaces it.
pub(super) fn replace(path: &Path, content: &str, _lock: &FolderLock) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Err(io::Error::other(
            "it is a link, as in a mounted Secret: replace a copy of it with `--key-file`, and put \
             the copy there",
        ));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder_of(path).join(format!(".{name}.draft"));
    // A process that was killed has left it behind, and with it a key.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let owner = (found.uid() != user::own_id()).then(|| (found.uid(), found.gid()));
    let replaced = write_for(&draft, content, owner).and_then(|()| fs::rename(&draft, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&draft);
    }
    replaced?;
    File::open(folder_of(path))?.sync_all()
}

pub(super) fn write(path: &Path, content: &str) -> io::Result<()> {
    write_for(path, content, None)
}

/// The open file changes its owner, and not whatever has its name by then: the folder may belong
/// to a user who puts a link there.
fn write_for(path: &Path, content: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    if let Some((user, group)) = owner {
        fchown(&file, Some(user), Some(group))?;
    }
    file.sync_all()
}
