//! A disk for the audit log that forgets what was not synced, and fails as told.
//!
//! A real disk behaves like this after a failed `fdatasync`: data that was not durable is lost, and
//! the next sync of the same file still reports success.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Cursor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rise_broker::audit::{Disk, Segment, Space};

/// An operation of the broker on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Reserve,
    Append,
    Sync,
    Cut,
    Remove,
}

/// All clones share the same content.
#[derive(Clone, Debug, Default)]
pub struct FakeDisk(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    files: BTreeMap<String, Content>,
    operations: usize,
    faults: Vec<Fault>,
    /// From this operation on, nothing reaches the disk and every operation fails.
    crash_at: Option<usize>,
    free_percent: Option<u64>,
    sync_takes: Duration,
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    /// Data that is written, and gone after a crash.
    cached: Vec<u8>,
    /// A sync of it was reported as failed: the data is gone after a crash, also if a later sync
    /// reports success.
    doomed: bool,
}

#[derive(Debug)]
struct Fault {
    operation: Operation,
    error: i32,
    times: usize,
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;

impl FakeDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next `times` operations of this kind fail.
    pub fn fail(&self, operation: Operation, error: i32, times: usize) {
        self.world().faults.push(Fault { operation, error, times });
    }

    pub fn heal(&self) {
        let mut world = self.world();
        world.faults.clear();
        world.sync_takes = Duration::ZERO;
        world.free_percent = None;
    }

    pub fn crash_at(&self, operation: usize) {
        self.world().crash_at = Some(operation);
    }

    pub fn sync_takes(&self, duration: Duration) {
        self.world().sync_takes = duration;
    }

    pub fn free_percent(&self, percent: u64) {
        self.world().free_percent = Some(percent);
    }

    pub fn operations(&self) -> usize {
        self.world().operations
    }

    /// The disk after a power failure. `keep` returns how many of the written, unsynced bytes
    /// survive.
    #[must_use]
    pub fn after_crash(&self, keep: impl Fn(usize) -> usize) -> Self {
        let mut files = self.world().files.clone();
        for content in files.values_mut() {
            content.cached.truncate(keep(content.cached.len()));
            content.durable.append(&mut content.cached);
            content.doomed = false;
        }
        Self(Arc::new(Mutex::new(World { files, ..World::default() })))
    }

    /// The content of all segments in order, with a line break between them.
    pub fn text(&self) -> String {
        let text = |content: &Content| String::from_utf8_lossy(&content.bytes()).into_owned();
        self.world().files.values().map(text).collect::<Vec<_>>().join("\n")
    }

    /// Replaces the content of a segment, as an attacker could.
    pub fn change(&self, segment: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.world().files.get_mut(segment).unwrap().durable);
    }

    pub fn names(&self) -> Vec<String> {
        self.world().files.keys().cloned().collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn attempt(&mut self, operation: Operation) -> io::Result<()> {
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations > at) {
            return Err(io::Error::other("the machine has crashed"));
        }
        let fault =
            self.faults.iter_mut().find(|fault| fault.operation == operation && fault.times > 0);
        let Some(fault) = fault else { return Ok(()) };
        fault.times -= 1;
        Err(io::Error::from_raw_os_error(fault.error))
    }

    fn file(&mut self, name: &str) -> &mut Content {
        self.files.get_mut(name).expect("a segment that exists")
    }
}

impl Content {
    fn bytes(&self) -> Vec<u8> {
        [self.durable.as_slice(), &self.cached].concat()
    }
}

impl Disk for FakeDisk {
    fn segments(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, segment: &str) -> io::Result<Box<dyn BufRead + Send>> {
        let world = self.world();
        let content = world.files.get(segment).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(content.bytes())))
    }

    fn create(&self, segment: &str) -> io::Result<Box<dyn Segment>> {
        let mut world = self.world();
        world.attempt(Operation::Create)?;
        if world.files.contains_key(segment) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.files.insert(segment.to_owned(), Content::default());
        Ok(Box::new(FakeSegment { disk: self.clone(), name: segment.to_owned() }))
    }

    fn cut(&self, segment: &str, bytes: u64) -> io::Result<()> {
        let mut world = self.world();
        world.attempt(Operation::Cut)?;
        let content = world.file(segment);
        content.durable = content.bytes();
        content.cached.clear();
        content.durable.truncate(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn remove(&self, segment: &str) -> io::Result<()> {
        let mut world = self.world();
        world.attempt(Operation::Remove)?;
        world.files.remove(segment);
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: self.world().free_percent.unwrap_or(50), total: 100 })
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(()))
    }
}

struct FakeSegment {
    disk: FakeDisk,
    name: String,
}

impl Segment for FakeSegment {
    fn reserve(&mut self, _: u64) -> io::Result<()> {
        self.disk.world().attempt(Operation::Reserve)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        let allowed = world.attempt(Operation::Append);
        // A write that fails has often written a part.
        let written = if allowed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let crashed = world.crash_at.is_some_and(|at| world.operations > at + 1);
        if !crashed {
            world.file(&self.name).cached.extend_from_slice(written);
        }
        allowed
    }

    fn sync(&mut self) -> io::Result<()> {
        let began = Instant::now();
        // The duration is read each time, so that a healed disk continues at once.
        while began.elapsed() < self.disk.world().sync_takes {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut world = self.disk.world();
        let allowed = world.attempt(Operation::Sync);
        let content = world.file(&self.name);
        match &allowed {
            Ok(()) if !content.doomed => content.durable.append(&mut content.cached),
            Ok(()) => {}
            Err(_) => content.doomed = true,
        }
        allowed
    }
}
