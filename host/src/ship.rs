//! Ships the audit log: one follower for each target reads the segments that this broker writes and
//! sends their records on.
//!
//! `reader` reads what is durable, `cursor` remembers how far a target has it, `follower` delivers
//! batches until they arrive, and `status` is what metrics and `/readyz` say of it. `retention`
//! deletes old segments that every target has. To add a target: a file here that implements
//! [`Target`], a table in `settings`, a line in `targets`.
//!
//! **Invariant:** no request waits for a target. A follower is a task of its own, reads files, and
//! has at most one batch in memory; a target that is away costs only lag.
//! **Invariant:** a record is sent at least once, and in the order of its chain. Targets that can
//! tell keep it once: it is named by its chain and number.

mod cursor;
mod follower;
mod https;
mod otlp;
mod postgres;
mod reader;
mod record;
mod retention;
mod s3;
mod settings;
mod status;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::domain::{Clock, Deadline};
use crate::posting::{PostError, Poster};
use cursor::CursorFile;
use follower::Follower;
use https::Https;
use otlp::Otlp;
pub use postgres::{Migrated, Postgres, PostgresError, Search};
pub use record::ShippedRecord;
use retention::Age;
pub use s3::S3;
pub use settings::{ObjectLock, PostgresSettings, S3Settings, ShipSettings};
pub use status::{TargetFigures, TargetStatus};

/// Records of one chain, in order, from one segment.
#[derive(Default)]
pub struct Batch {
    pub records: Vec<ShippedRecord>,
    bytes: usize,
    /// Lines that were no records. `audit verify` reports them.
    unreadable: u64,
    /// The first segment that has such lines.
    unreadable_in: Option<u64>,
}

impl Batch {
    /// The same records have the same name, however often they are sent.
    fn name(&self) -> Option<String> {
        let (first, last) = (self.records.first()?, self.records.last()?);
        Some(format!("{}-{}-{}", first.chain, first.seq, last.seq))
    }
}

/// How large a batch becomes.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub records: usize,
    pub bytes: usize,
    /// How long a follower waits for more records than the first one.
    pub gather: Duration,
}

/// Where records are sent.
#[async_trait]
pub trait Target: Send {
    /// The name of its table in `[audit.ship]`, for metrics and the log.
    fn name(&self) -> &'static str;
    fn limits(&self) -> BatchLimits;
    /// Returns once the target has all records durably, and how many it refused for good. It may
    /// have some of them from before.
    async fn send(&mut self, batch: &Batch) -> Result<usize, ShipError>;
}

/// Why a batch did not arrive. It is sent again.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ShipError {
    /// A word for metrics.
    pub reason: &'static str,
    text: String,
}

/// The words of [`ShipError::reason`].
pub(crate) const REASONS: [&str; 7] =
    ["unavailable", "timed-out", "denied", "full", "rejected", "refused", "unreadable"];

impl From<PostError> for ShipError {
    fn from(PostError { reason, text }: PostError) -> Self {
        Self { reason, text }
    }
}

impl ShipError {
    pub(crate) fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

/// Everything that ships.
pub struct Shipping {
    statuses: Vec<Arc<TargetStatus>>,
    required_lag: Option<Duration>,
    clock: Clock,
}

/// The tasks of [`Shipping`].
pub struct ShippingTasks {
    followers: JoinSet<()>,
    stop: watch::Sender<bool>,
    _retention: JoinSet<()>,
}

/// What a start needs beside the settings.
pub struct ShippingPlace<'a> {
    pub audit: &'a Audit,
    /// The folder of the cursors.
    pub state: PathBuf,
    pub clock: Clock,
    pub keep: Keep,
}

/// No segment is deleted that has records younger than this: the next start reads them. It is asked
/// again and again, because a reload may change it.
pub type Keep = Box<dyn Fn() -> Duration + Send + Sync>;

impl Shipping {
    /// Starts a follower for each target. Returns `None` if there is no target.
    pub fn start(
        settings: &ShipSettings,
        place: ShippingPlace<'_>,
    ) -> Option<(Self, ShippingTasks)> {
        let targets = targets(settings, &place.clock);
        if targets.is_empty() {
            return None;
        }
        let ShippingPlace { audit, state, clock, keep } = place;
        let (stop, stopping) = watch::channel(false);
        let (mut followers, mut statuses) = (JoinSet::new(), Vec::new());
        for target in targets {
            let status = Arc::new(TargetStatus::new(target.name(), audit.durable()));
            let cursor = CursorFile::new(&state, target.name(), &audit.folder());
            let follower =
                Follower::new(target, audit.folder(), cursor, Arc::clone(&status), clock.clone());
            followers.spawn(follower.run(audit.durable(), stopping.clone()));
            statuses.push(status);
        }
        let mut retention = JoinSet::new();
        if let Some(age) = settings.delete_after {
            let (folder, statuses, clock) = (audit.folder(), statuses.clone(), clock.clone());
            retention.spawn(retention::run(folder, statuses, clock, Age::new(age, keep)));
        }
        let tasks = ShippingTasks { followers, stop, _retention: retention };
        Some((Self { statuses, required_lag: settings.required_lag, clock }, tasks))
    }

    /// Why this broker shall not serve: a target is too far behind.
    pub fn refusal(&self) -> Option<String> {
        let required = self.required_lag?;
        let now = self.clock.now();
        self.statuses.iter().find_map(|status| {
            let figures = status.figures(now);
            (figures.lag > required).then(|| {
                format!(
                    "{} is {} seconds behind, more than `audit.ship.required_lag_seconds` ({}): {}",
                    figures.target,
                    figures.lag.as_secs(),
                    required.as_secs(),
                    figures.problem.as_deref().unwrap_or("it is slower than records come"),
                )
            })
        })
    }

    /// How far each target is.
    pub fn figures(&self) -> Vec<TargetFigures> {
        let now = self.clock.now();
        self.statuses.iter().map(|status| status.figures(now)).collect()
    }
}

impl ShippingTasks {
    /// Ships what is left until the deadline. The next start ships the rest.
    pub async fn finish(mut self, deadline: Deadline) {
        self.stop.send_replace(true);
        let all = async { while self.followers.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline.remaining(), all).await.is_err() {
            tracing::warn!(
                "not all audit records were shipped before the stop; the next start ships the rest"
            );
        }
    }
}

fn targets(settings: &ShipSettings, clock: &Clock) -> Vec<Box<dyn Target>> {
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    if let Some(postgres) = &settings.postgres {
        targets.push(Box::new(Postgres::new(postgres.clone())));
    }
    if let Some(s3) = &settings.s3 {
        targets.push(Box::new(S3::new(s3.clone(), clock.clone())));
    }
    if let Some(https) = &settings.https {
        targets.push(Box::new(Https { poster: Poster::new(https.clone()) }));
    }
    if let Some(otlp) = &settings.otlp {
        targets.push(Box::new(Otlp { poster: Poster::new(otlp.clone()) }));
    }
    targets
}
