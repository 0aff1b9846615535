//! Small files: checked before they are read, and replaced atomically.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Other runs keep a lock for as long as they write: longer means that one of them hangs.
const LOCKED: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// An error about a file. Its text follows the file's name in messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("is not a regular file")]
    NotRegular,
    #[error("is longer than {0} bytes")]
    TooLong(u64),
    #[error("is not UTF-8")]
    NotText,
    #[error("other users can read or write it; run `chmod {0}` on it")]
    NotPrivate(&'static str),
    #[error("it is mounted by itself and cannot be replaced; set DOCKER_CONFIG, or use `exec`")]
    Mounted,
}

/// Returns `None` if there is no such file. A FIFO or device is an error and is never waited for.
pub(crate) fn read(path: &Path, longest: u64) -> Result<Option<Zeroizing<String>>, FileError> {
    read_checked(path, longest, OFlags::empty(), |_| Ok(()))
}

/// Like [`read`], for a file that only its owner can read and that is not a link.
pub(crate) fn read_private(
    path: &Path,
    longest: u64,
) -> Result<Option<Zeroizing<String>>, FileError> {
    read_checked(path, longest, OFlags::NOFOLLOW, |metadata| {
        if is_ours_alone(metadata) { Ok(()) } else { Err(FileError::NotPrivate("600")) }
    })
}

fn read_checked(
    path: &Path,
    longest: u64,
    flags: OFlags,
    check: impl FnOnce(&fs::Metadata) -> Result<(), FileError>,
) -> Result<Option<Zeroizing<String>>, FileError> {
    let flags = i32::try_from((flags | OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    check(&metadata)?;
    // The length is a hint only: a file may grow, and files in /proc report none.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len().min(longest)).unwrap_or(0) + 1,
    ));
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(FileError::TooLong(longest));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(_) => Err(FileError::NotText),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Checks that only its owner can enter the folder. Creates it if it is missing.
pub(crate) fn private_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
    }
    if !is_ours_alone(&metadata) {
        return Err(FileError::NotPrivate("700"));
    }
    Ok(())
}

pub(crate) fn is_ours_alone(metadata: &fs::Metadata) -> bool {
    let others = metadata.mode() & 0o077;
    others == 0 && metadata.uid() == rustix::process::geteuid().as_raw()
}

/// Replaces the file atomically with mode 0600: a reader sees the old or the new text in full.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), FileError> {
    write(path, text, |_| Ok(()))
}

/// Replaces the file atomically. The new one has the owner and the mode of `model`, as far as that
/// lets nobody but its owner and its group read it.
pub(crate) fn write_like(model: &Path, path: &Path, text: &str) -> Result<(), FileError> {
    let model = fs::metadata(model).ok().filter(fs::Metadata::is_file);
    write(path, text, |file| {
        let Some(model) = &model else { return Ok(()) };
        let own = file.metadata()?;
        let is_foreign = (own.uid(), own.gid()) != (model.uid(), model.gid());
        // Only root may give a file away. Without its group, the group's bits mean nothing good.
        if is_foreign && fchown(file, Some(model.uid()), Some(model.gid())).is_err() {
            return Ok(());
        }
        let is_public = model.mode() & 0o007 != 0;
        let mode = if is_public { 0o600 } else { model.mode() & 0o770 | 0o600 };
        file.set_permissions(Permissions::from_mode(mode))
    })
}

fn write(
    path: &Path,
    text: &str,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    // It may be left from a process with the same number, or be another user's link.
    let _ = fs::remove_file(&temporary);
    let written = create_private(&temporary).and_then(|mut file| {
        prepare(&file)?;
        file.write_all(text.as_bytes())
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed.map_err(|error| {
        if error.kind() == io::ErrorKind::ResourceBusy { FileError::Mounted } else { error.into() }
    })
}

/// Locks a folder until the returned file is dropped, so that no other run changes its files.
pub(crate) fn lock_folder(path: &Path) -> Result<File, FileError> {
    let folder = File::open(path)?;
    let limit = Instant::now() + LOCKED;
    loop {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < limit => thread::sleep(POLL),
            // Not every file system has locks. The files are replaced atomically in any case.
            Ok(()) | Err(_) => return Ok(folder),
        }
    }
}

fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask must not change the mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_if_it_is_what_it_should_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(read(&path, 10).unwrap().is_none());
        write_private(&path, "0123456789").unwrap();
        assert_eq!(read_private(&path, 10).unwrap().unwrap().as_str(), "0123456789");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(matches!(read(&path, 9), Err(FileError::TooLong(9))));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_private(&path, 10), Err(FileError::NotPrivate(_))));
        assert!(matches!(read(directory.path(), 10), Err(FileError::NotRegular)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_not_followed_where_a_file_must_be_ours() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        write_private(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(matches!(read_private(&link, 10), Err(FileError::Io(_))));
        write_private(&link, "y").unwrap();
        assert_eq!(read(&file, 10).unwrap().unwrap().as_str(), "x");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_unless_everybody_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_like(&path, &path, "new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        for (mode, expected) in [(0o640, 0o640), (0o660, 0o660), (0o440, 0o640), (0o644, 0o600)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            write_like(&path, &path, "again").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, expected, "{mode:o}");
        }
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(matches!(read(&fifo, 10), Err(FileError::NotRegular)));
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(private_directory(&path), Err(FileError::NotPrivate(_))));
    }
}
