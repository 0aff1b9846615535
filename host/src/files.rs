//! Files that somebody else wrote: settings, keys, certificates, providers. Only regular files are
//! opened, no open waits, and no more than a bound is read.
//!
//! **Invariant:** a pipe, a device or a file without an end costs an error: it holds up no thread
//! and takes no memory. A disk that does not answer can still hold up a read, so a running broker
//! reads files on threads for blocking work only (`reload/watch.rs`).

pub(crate) mod group;
mod stream;

pub(crate) use stream::Stream;

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, OFlags};

/// Opens a regular file, or a link to one, for reading.
///
/// The error of anything else is [`ErrorKind::InvalidInput`].
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe has an effect on its writer, and opening a device may have any.
    check(std::fs::metadata(path)?.file_type())?;
    let no_wait = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path)?;
    // It may be another file by now.
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a file of at most `limit` bytes. The error of a larger one is
/// [`ErrorKind::FileTooLarge`].
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    bounded(bytes.len(), limit)?;
    Ok(bytes)
}

/// The same as [`read`], for a file that must be UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let file = open(path)?;
    // A buffer that grows leaves copies behind, and the text may be a secret.
    let room = file.metadata()?.len().min(limit).saturating_add(1);
    let mut text = String::with_capacity(usize::try_from(room).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    bounded(text.len(), limit)?;
    Ok(text)
}

/// The nearest folder at or above `path` that exists.
pub(crate) fn existing(path: &Path) -> &Path {
    let exists = |path: &&Path| path.symlink_metadata().is_ok();
    let found = path.ancestors().find(exists).filter(|found| !found.as_os_str().is_empty());
    found.unwrap_or(Path::new("."))
}

/// Whether this process could create a file or folder at `path`, and the folders above it.
pub(crate) fn may_create(path: &Path) -> io::Result<()> {
    let above = existing(path);
    if !above.metadata()?.is_dir() {
        return Err(io::Error::from(rustix::io::Errno::NOTDIR));
    }
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::accessat(CWD, above, wanted, AtFlags::EACCESS)?)
}

fn bounded(length: usize, limit: u64) -> io::Result<()> {
    if length as u64 > limit {
        let message = format!("larger than {limit} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(())
}

fn check(kind: FileType) -> io::Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let found = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {found}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{Mode, mkfifoat};

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_only_up_to_their_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("text"), "12345").unwrap();
        symlink(path("text"), path("link")).unwrap();
        mkfifoat(CWD, path("pipe"), Mode::RUSR).unwrap();
        symlink(path("pipe"), path("link-to-pipe")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        std::fs::File::create(path("sparse")).unwrap().set_len(1 << 40).unwrap();
        for (name, limit, expected) in [
            ("text", 5, Ok("12345")),
            ("link", 5, Ok("12345")),
            ("text", 4, Err("larger than 4 bytes")),
            ("sparse", 1 << 20, Err("larger than 1048576 bytes")),
            ("pipe", 5, Err("it is a pipe, not a regular file")),
            ("link-to-pipe", 5, Err("it is a pipe, not a regular file")),
            ("socket", 5, Err("it is a socket, not a regular file")),
            (".", 5, Err("it is a folder, not a regular file")),
            ("/dev/zero", 5, Err("it is a device, not a regular file")),
            ("/dev/null", 5, Err("it is a device, not a regular file")),
        ] {
            let text = read_text(&path(name), limit).map_err(|error| error.to_string());
            let bytes = read(&path(name), limit).map_err(|error| error.to_string());
            assert_eq!(text.as_deref().map_err(String::as_str), expected, "{name}");
            assert_eq!(bytes.map(|bytes| String::from_utf8(bytes).unwrap()), text, "{name}");
        }
        assert_eq!(read(&path("none"), 5).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
