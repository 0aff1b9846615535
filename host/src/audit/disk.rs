//! The port to the folder of segments, and its adapter. Tests use a disk that fails and forgets.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

/// A folder of segments.
pub trait Disk: Send {
    /// The names of all segments, in order.
    fn segments(&self) -> io::Result<Vec<String>>;
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

/// A segment that is open for writing.
pub trait Segment: Send {
    /// Reserves room for this many more bytes, so that a full disk fails before half a record is
    /// written.
    fn reserve(&mut self, bytes: u64) -> io::Result<()>;
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything appended is durable.
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
pub(super) fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:08}{SUFFIX}")
}

/// The number of a segment by its name; `None` for other files.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// A real folder.
pub struct Folder {
    directory: PathBuf,
}

impl Folder {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
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

    fn open(&self, segment: &str) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(Box::new(BufReader::with_capacity(1 << 16, File::open(self.directory.join(segment))?)))
    }

    fn create(&self, segment: &str) -> io::Result<Box<dyn Segment>> {
        let path = self.directory.join(segment);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        File::open(&self.directory)?.sync_all()?;
        Ok(Box::new(SegmentFile { file, written: 0, reserved: 0 }))
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
        let found = fstatvfs(File::open(&self.directory)?)?;
        let block = found.f_frsize;
        Ok(Space {
            free: found.f_bavail.saturating_mul(block),
            total: found.f_blocks.saturating_mul(block),
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let path = self.directory.join(".lock");
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(file)),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            }
        }
        Err(io::Error::other(
            "another broker writes into this folder; give each broker its own \
                              `audit.directory`",
        ))
    }
}

struct SegmentFile {
    file: File,
    written: u64,
    reserved: u64,
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
        self.file.sync_data()
    }
}
