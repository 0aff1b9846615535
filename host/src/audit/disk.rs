//! The port to the folder of segments, and its adapter. Tests use a disk that fails and forgets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::files;

/// A folder of segments.
pub trait Disk: Send {
    /// The names of all segments, in order.
    fn segments(&self) -> io::Result<Vec<String>>;
    /// The names of files that were segments and have another end now, such as `.jsonl.gz`, in
    /// order. A segment of which there is also a plain file is left out.
    fn packed(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// The whole path of the folder, if it has one.
    fn path(&self) -> Option<PathBuf> {
        None
    }
    /// Opens a segment for reading.
    fn open(&self, segment: &str) -> io::Result<Box<dyn BufRead + Send>>;
    /// Creates a segment. Its name is durable too, so that a crash does not lose the whole file.
    fn create(&self, segment: &str) -> io::Result<Box<dyn Segment>>;
    /// Shortens a segment to this many bytes, durably.
    fn cut(&self, segment: &str, bytes: u64) -> io::Result<()>;
    fn remove(&self, segment: &str) -> io::Result<()>;
    fn space(&self) -> io::Result<Space>;
    /// Locks the folder against other writers until the returned value is dropped.
    fn lock(&self) -> io::Result<Box<dyn Send>>;
}

/// The segment that is written is not where its readers look for it: somebody removed or renamed
/// it, or exchanged its folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "the segment is not in its place any more: it was removed or renamed, or its folder was \
     exchanged"
)]
pub struct Displaced;

/// Another process holds the lock of the folder.
#[derive(Debug, thiserror::Error)]
#[error(
    "another broker writes into this folder; give each broker its own `audit.directory`, or stop \
     the other one"
)]
struct Locked;

/// A segment that is open for writing.
pub trait Segment: Send {
    /// Reserves room for this many more bytes, so that a full disk fails before half a record is
    /// written.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything appended is durable, and in a file that is still in its place. The
    /// error is [`Displaced`] if it is not.
    fn sync(&mut self) -> io::Result<()>;
}

/// How full a disk is.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

impl Space {
    /// Rounded up: 0 means that nothing is left.
    pub fn free_percent(self) -> u64 {
        self.free.saturating_mul(100).div_ceil(self.total.max(1))
    }
}

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// The name of a segment by its number.
pub fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:08}{SUFFIX}")
}

/// The number of a segment by its name; `None` for other files.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The number of a segment that may have another end: logrotate and cleanups pack and rename files.
pub fn any_segment_number(name: &str) -> Option<u64> {
    let (digits, _end) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let is_number = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// A real folder.
pub struct Folder {
    directory: PathBuf,
    spares: RefCell<Vec<File>>,
}

/// A new segment needs a descriptor, and so does the sync of its folder.
const SPARES: usize = 2;

impl Folder {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, spares: RefCell::default() }
    }

    /// Runs `open` and, if this process has no descriptor left, once more with those that are held
    /// for it.
    fn with_spares<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let is_out = |error: &io::Error| {
            matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
        };
        match open() {
            Err(error) if is_out(&error) && !self.spares.borrow().is_empty() => {
                self.spares.borrow_mut().clear();
                open()
            }
            opened => opened,
        }
    }

    /// Holds descriptors for later, as far as there are any.
    fn keep_spares(&self) {
        let mut spares = self.spares.borrow_mut();
        while spares.len() < SPARES {
            let Ok(spare) = File::open(&self.directory) else { return };
            spares.push(spare);
        }
    }
}

/// The previous broker may still hold the lock while it stops.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

impl Disk for Folder {
    fn segments(&self) -> io::Result<Vec<String>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            numbers.extend(entry?.file_name().to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(segment_name).collect())
    }

    fn path(&self) -> Option<PathBuf> {
        std::path::absolute(&self.directory).ok()
    }

    fn packed(&self) -> io::Result<Vec<String>> {
        let mut packed = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| segment_number(name).is_none()) else {
                continue;
            };
            let Some(number) = any_segment_number(name) else { continue };
            if !self.directory.join(segment_name(number)).exists() {
                packed.insert(number, name.to_owned());
            }
        }
        Ok(packed.into_values().collect())
    }

    fn open(&self, segment: &str) -> io::Result<Box<dyn BufRead + Send>> {
        let file = files::open(&self.directory.join(segment))?;
        Ok(Box::new(BufReader::with_capacity(1 << 16, file)))
    }

    fn create(&self, segment: &str) -> io::Result<Box<dyn Segment>> {
        let path = self.directory.join(segment);
        let file = self.with_spares(|| {
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)
        })?;
        self.with_spares(|| File::open(&self.directory))?.sync_all()?;
        let identity = identity(&file.metadata()?);
        Ok(Box::new(SegmentFile { file, path, identity, written: 0, reserved: 0 }))
    }

    fn cut(&self, segment: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.directory.join(segment))?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn remove(&self, segment: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(segment))
    }

    fn space(&self) -> io::Result<Space> {
        self.keep_spares();
        // By name, because it needs no descriptor.
        let found = statvfs(&self.directory)?;
        let block = found.f_frsize;
        Ok(Space {
            free: found.f_bavail.saturating_mul(block),
            total: found.f_blocks.saturating_mul(block),
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let path = self.directory.join(".lock");
        let file = self.with_spares(|| {
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)
        })?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, Locked))
    }
}

struct SegmentFile {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    written: u64,
    reserved: u64,
}

/// Device and inode, which no other file has while this one is open.
fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// How many bytes are reserved ahead.
const AHEAD: u64 = 1 << 20;

impl Segment for SegmentFile {
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let needed = self.written.saturating_add(bytes);
        if needed <= self.reserved {
            return Ok(());
        }
        let target = needed.saturating_add(AHEAD);
        let claimed = fallocate(
            &self.file,
            FallocateFlags::KEEP_SIZE,
            self.reserved,
            target.saturating_sub(self.reserved),
        );
        match claimed {
            // This file system cannot reserve, so a full disk fails at the write.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.reserved = target;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::NotFound, Displaced)),
        }
    }
}
