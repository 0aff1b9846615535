//! The audit log: one JSON line for each decision and each outcome. The lines form a hash chain,
//! and each is durable before its caller gets an answer.
//!
//! `record` has the fields of a line, `chain` links lines, `segments` puts them onto the disk, and
//! `writer` is the thread that does so. `disk` is the port below. `verify` reads the log back, and
//! `recover` finds the end of the log at start, which `head` remembers outside the log's folder.
//! To add an event: a variant of [`Event`], a method in `events`, a line in `docs/audit.md`.
//!
//! **Invariant:** a record is a closed set of bounded fields, so that no request, header or error
//! text can slip into it.
//! **Invariant:** waiting for a record means waiting for `fdatasync`. Without it there is no
//! credential and no call to AWS.

mod chain;
mod copies;
mod disk;
mod durable;
mod events;
mod failures;
pub mod filter;
mod head;
mod kept;
mod keys;
mod leftovers;
mod newest;
mod past;
mod past_answer;
mod record;
mod recover;
mod segments;
pub mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use ulid::Ulid;

use crate::domain::{Clock, Credentials};
use crate::telemetry::{Metrics, Step};
use crate::{files, state};
pub use copies::{ChainCopy, Copies, CopiesReport};
pub use disk::{
    Disk, Displaced, Folder, Segment, Space, any_segment_number, segment_name, segment_number,
};
pub use durable::Durable;
pub use events::{AuditReadFacts, RevocationFacts, RevocationRequestFacts, Revoker, TokenFacts};
use failures::Failures;
pub use filter::Filter;
pub use head::{Head, missing};
pub use kept::Kept;
use keys::AuditKeys;
pub use keys::{Fingerprints, signing_key};
pub use newest::{Newest, SearchBounds, newest};
pub use past::{PastIssue, outstanding};
pub use past_answer::{BeyondReach, PastAnswer, PastSelection, answer_of, beyond_reach};
use record::Record;
pub use record::{CheckpointFields, Event, Resumes};
pub use recover::StartError;
use segments::Segments;
use writer::{Health, RecordWriter, WriterMessage};

/// How long a request waits for its record. A slower disk counts as failed.
const DEADLINE: Duration = Duration::from_millis(250);
/// How long a start waits until the last segment was read back and checked.
const START: Duration = Duration::from_mins(1);
/// The folder of the log of commands, in that of the broker's log.
const OF_COMMANDS: &str = "operator";
/// How long a stop waits for the last record.
const STOP: Duration = Duration::from_secs(5);

/// The number of records after which a checkpoint is written, unless the settings have another.
pub const CHECKPOINT_RECORDS: u64 = 10_000;

/// Where the log lies and how it is kept.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    pub directory: PathBuf,
    /// The folder of the keys: `server.state_directory`.
    pub state: PathBuf,
    pub rotate_bytes: u64,
    pub rotate_after: Duration,
    pub checkpoint_records: u64,
    pub checkpoint_after: Duration,
    pub summary_after: Duration,
    pub warn_free_percent: u64,
    pub refuse_free_percent: u64,
    /// Whether it is the log of commands, which has a chain of its own.
    pub is_of_commands: bool,
}

impl AuditSettings {
    /// The log of commands that change something while a broker may serve: a folder has one writer.
    #[must_use]
    pub fn of_commands(&self) -> Self {
        let directory = self.directory.join(OF_COMMANDS);
        Self { directory, is_of_commands: true, ..self.clone() }
    }
}

/// The audit log, as the rest of the program sees it. All clones write into the same log.
#[derive(Clone)]
pub struct Audit {
    sender: SyncSender<WriterMessage>,
    health: Arc<Health>,
    failures: Arc<Failures>,
    fingerprints: Arc<Fingerprints>,
    directory: Arc<Path>,
    durable: watch::Receiver<Durable>,
    clock: Clock,
    metrics: Metrics,
}

/// What a record says of the provider that a grant is for.
#[derive(Clone, Copy, Debug)]
pub struct ProviderFacts<'a> {
    pub name: &'a str,
    /// SHA-256 of its file, in hex.
    pub digest: &'a str,
    /// Whether a call may leave something behind elsewhere, such as a session in AWS.
    pub reaches_outside: bool,
}

/// A credential as a record describes it.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    pub credentials: &'a Credentials,
    /// `minted`, `shared` or `cached`.
    pub source: &'static str,
    /// The request that it was minted for.
    pub minted_by: Ulid,
    /// How long the provider took, if it was called for this request.
    pub took: Option<Duration>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot write the audit record: {0}")]
    Unavailable(String),
    #[error("the audit record was not durable within {} ms", DEADLINE.as_millis())]
    TimedOut,
    #[error("more than {} audit records wait to be written", writer::QUEUE)]
    Overloaded,
}

impl Audit {
    /// Checks that the folder can be written, and creates the keys. Nothing is written into the log
    /// before [`Audit::start`] or the first record.
    pub fn open(settings: AuditSettings, clock: Clock, metrics: Metrics) -> Result<Self, String> {
        let directory = settings.directory.clone();
        state::private(&directory)?;
        probe(&directory).map_err(|error| unwritable(&directory, &error))?;
        Self::on(Box::new(Folder::new(directory)), settings, clock, metrics)
    }

    /// Checks what [`Audit::open`] would find, and creates nothing.
    pub fn examine(settings: &AuditSettings) -> Result<(), String> {
        let directory = &settings.directory;
        if state::examine_private(directory)? == state::Existing::Own {
            probe(directory).map_err(|error| unwritable(directory, &error))?;
        }
        keys::examine(&settings.state).map_err(|error| error.to_string())?;
        Self::full_disk(settings).map_or(Ok(()), Err)
    }

    /// Why a broker with these settings would issue nothing: its disk is full.
    fn full_disk(settings: &AuditSettings) -> Option<String> {
        let space = Folder::new(files::existing(&settings.directory).to_owned()).space();
        let full = writer::fullness(settings, space).map_or_else(Some, |space| space.refusal)?;
        Some(format!("{full}; make room on the disk of {}", settings.directory.display()))
    }

    /// As [`Audit::open`], with records that go to `disk`.
    pub fn on(
        disk: Box<dyn Disk>,
        settings: AuditSettings,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, String> {
        let keys = AuditKeys::open_or_create(&settings.state).map_err(|error| error.to_string())?;
        let (sender, receiver) = sync_channel(writer::QUEUE);
        let (health, failures) = (Arc::<Health>::default(), Arc::<Failures>::default());
        let directory = settings.directory.as_path().into();
        let segments = Segments::new(disk, keys.signer, settings.clone(), clock.clone());
        let durable = segments.durable();
        let writer = RecordWriter {
            receiver,
            segments,
            settings,
            clock: clock.clone(),
            health: Arc::clone(&health),
            failures: Arc::clone(&failures),
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| format!("cannot start the thread that writes records: {error}"))?;
        let fingerprints = Arc::new(keys.fingerprints);
        Ok(Self { sender, health, failures, fingerprints, directory, durable, clock, metrics })
    }

    /// Checks and repairs the end of the log, and records that the service starts.
    pub async fn start(&self, accept_broken: bool) -> Result<(), StartError> {
        let (reply, started) = oneshot::channel();
        self.sender
            .try_send(WriterMessage::Start { accept_broken, reply })
            .map_err(|_| StartError::Ended)?;
        match tokio::time::timeout(START, started).await {
            Ok(started) => started.unwrap_or(Err(StartError::Ended)),
            Err(_) => Err(StartError::TimedOut(START.as_secs())),
        }
    }

    /// Writes the records that are left, the end of the service, and a checkpoint.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        let sender = self.sender.clone();
        let sent = tokio::task::spawn_blocking(move || sender.send(WriterMessage::Stop { reply }));
        let stop = async { sent.await.is_ok() && stopped.await.is_ok() };
        if !matches!(tokio::time::timeout(STOP, stop).await, Ok(true)) {
            tracing::error!("the audit log did not record the end of the service in time");
        }
    }

    /// The folder of the segments, to read what was recorded.
    pub fn folder(&self) -> Folder {
        Folder::new(self.directory.to_path_buf())
    }

    /// The end of what is durable, as it moves on. What lies behind it in the folder is not for
    /// readers.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// Why no credential can be issued now. `None` if nothing is wrong.
    pub fn refusal(&self) -> Option<String> {
        self.health.refusal()
    }

    /// Whether credentials can be issued now, kept ones too: their records would have to become
    /// durable.
    pub fn check(&self) -> Result<(), AuditError> {
        let Some(reason) = self.health.refusal() else { return Ok(()) };
        self.metrics.audit_record(Event::Intent.as_str(), false, Duration::ZERO);
        Err(AuditError::Unavailable(reason))
    }

    async fn record_denial(&self, record: &Record<'_>) {
        if let Err(error) = self.record(record).await {
            tracing::error!(%error, "a denial is missing in the audit log");
        }
    }

    /// Returns once the record is durable. Counted and timed by the name of its event.
    async fn record(&self, record: &Record<'_>) -> Result<(), AuditError> {
        let started = Instant::now();
        let recorded = step_of(record.event).measure(&self.metrics, self.commit(record)).await;
        self.metrics.audit_record(record.event.as_str(), recorded.is_ok(), started.elapsed());
        recorded
    }

    async fn commit(&self, record: &Record<'_>) -> Result<(), AuditError> {
        let (reply, durable) = oneshot::channel();
        self.send(record, Some(reply))?;
        let Ok(answer) = tokio::time::timeout(DEADLINE, durable).await else {
            self.health.stalls();
            return Err(AuditError::TimedOut);
        };
        answer.unwrap_or_else(|_| Err(AuditError::Unavailable("its thread has ended".to_owned())))
    }

    /// Queues a record that nobody waits for. A disk that does not answer now may accept it later.
    fn record_later(&self, record: &Record<'_>) {
        let (event, started) = (record.event.as_str(), Instant::now());
        let (reply, durable) = oneshot::channel();
        let queued = self.queue(record, Some(reply));
        if let Err(error) = &queued {
            tracing::warn!(%error, "an audit record was dropped");
        }
        let metrics = self.metrics.clone();
        let counting = async move {
            let recorded = queued.is_ok() && matches!(durable.await, Ok(Ok(())));
            metrics.audit_record(event, recorded, started.elapsed());
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(counting);
        }
    }

    fn send(&self, record: &Record<'_>, reply: Option<writer::Reply>) -> Result<(), AuditError> {
        if let Some(reason) = self.health.failure() {
            self.health.drops();
            return Err(AuditError::Unavailable(reason));
        }
        self.queue(record, reply)
    }

    fn queue(&self, record: &Record<'_>, reply: Option<writer::Reply>) -> Result<(), AuditError> {
        let body = record.body().map_err(|error| AuditError::Unavailable(error.to_string()))?;
        self.sender.try_send(WriterMessage::Record { body, reply }).map_err(|error| {
            self.health.drops();
            match error {
                TrySendError::Full(_) => AuditError::Overloaded,
                TrySendError::Disconnected(_) => {
                    AuditError::Unavailable("its thread has ended".to_owned())
                }
            }
        })
    }
}

/// The step of a request that waits for a record of this event.
fn step_of(event: Event) -> Step {
    match event {
        Event::Intent | Event::RepositoryIntent | Event::RevokeIntent => Step::AuditIntent,
        Event::Denied => Step::AuditDenial,
        Event::Completed
        | Event::Minted
        | Event::Token
        | Event::Failed
        | Event::RepositoryChanged
        | Event::RepositoryFailed
        | Event::RevokeReturned
        | Event::RevokeRequested
        | Event::RevokeCompleted
        | Event::RevokeFailed
        | Event::AuditRead
        | Event::Aborted
        | Event::ServiceStart
        | Event::ServiceStop
        | Event::AuthenticationDenied
        | Event::Checkpoint
        | Event::Recovered
        | Event::BrokenAccepted
        | Event::Poisoned
        | Event::Displaced => Step::AuditOutcome,
    }
}

fn unwritable(directory: &Path, error: &std::io::Error) -> String {
    format!("cannot write in {}: {error}; {}", directory.display(), state::advice(error))
}

fn probe(directory: &Path) -> std::io::Result<()> {
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    std::fs::File::create(&probe).and_then(|file| file.sync_all())?;
    std::fs::remove_file(&probe)
}

/// The time in a record that was read back.
pub fn time_of(record: &serde_json::Value) -> Option<Timestamp> {
    record.get("time")?.as_str()?.parse().ok()
}
