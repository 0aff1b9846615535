//! What was decided and what came of it: one JSON line each, durable before anybody is answered.
//!
//! **Invariant:** [`Record`] is a closed set of bounded fields, so that no request, header or error text can slip into it.
//! **Invariant:** [`Audit::record`] returns `Ok` only after `fdatasync`. After a failed write or sync the file is given up:
//! a second sync of the same file may report success for data that is gone.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;

use crate::domain::{Actions, Clock, Credentials, EnforcedBy, Location, Scope, Subject};
use crate::registries::Registry;
use crate::rules::{Denied, Grant};

/// A disk that takes longer is as good as none.
const DEADLINE: Duration = Duration::from_secs(1);
const MAX_SUB: usize = 255;

#[derive(Clone)]
pub struct Audit {
    segment: Arc<Mutex<Segment>>,
    clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot write the audit record: {0}")]
    Failed(#[source] std::io::Error),
    #[error("the audit record was not durable within {} ms", DEADLINE.as_millis())]
    TimedOut,
}

/// What happened, in the words that the records use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Event {
    #[serde(rename = "authz.denied")]
    Denied,
    /// Granted; something outside may be called from here on.
    #[serde(rename = "issue.intent")]
    Intent,
    #[serde(rename = "issue.completed")]
    Completed,
    #[serde(rename = "issue.failed")]
    Failed,
}

/// One line.
#[derive(Serialize)]
pub struct Record<'a> {
    v: u8,
    #[serde(serialize_with = "display")]
    time: Timestamp,
    event: Event,
    #[serde(serialize_with = "display")]
    request_id: Ulid,
    subject: SubjectFields<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<&'a str>,
    /// Asked for, where denied; granted otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Actions>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    rules: &'a [String],
    /// Rules in `mode = "audit"` that match: what they would have allowed was not granted by them.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    trial_rules: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<ProviderFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<CredentialFields<'a>>,
    /// The slug of the problem that the caller was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct SubjectFields<'a> {
    issuer: &'a str,
    sub: &'a str,
}

#[derive(Serialize)]
struct ProviderFields<'a> {
    name: &'a str,
    sha256: &'a str,
}

#[derive(Serialize)]
struct CredentialFields<'a> {
    kind: &'static str,
    #[serde(serialize_with = "display")]
    location: &'a Location,
    scope: Scope,
    enforced_by: EnforcedBy,
    expires_at: Option<String>,
}

fn display<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

impl Audit {
    /// Sees that the folder can be written. The first segment is opened by the first record.
    pub fn open(directory: &Path, clock: Clock) -> Result<Self, String> {
        crate::state::private(directory)?;
        let probe = directory.join(format!(".probe-{}", std::process::id()));
        let written = File::create(&probe).and_then(|file| file.sync_all());
        written
            .and_then(|()| std::fs::remove_file(&probe))
            .map_err(|error| format!("cannot write in {}: {error}", directory.display()))?;
        let segment = Segment { directory: directory.to_owned(), file: None };
        Ok(Self { segment: Arc::new(Mutex::new(segment)), clock })
    }

    pub async fn denied(&self, denied: &Denied) -> Result<(), AuditError> {
        let request = &denied.request;
        let record = Record {
            project: Some(request.project.as_str()),
            registry: Some(request.registry.as_str()),
            actions: request.actions,
            reason: Some("access-denied"),
            trial_rules: &denied.trial,
            ..self.blank(Event::Denied, request.id, &denied.subject)
        };
        self.record(&record).await
    }

    /// A request for an image or a registry that nobody has.
    pub async fn denied_unknown(&self, id: Ulid, subject: &Subject) -> Result<(), AuditError> {
        let record =
            Record { reason: Some("access-denied"), ..self.blank(Event::Denied, id, subject) };
        self.record(&record).await
    }

    pub async fn intent(&self, grant: &Grant, registry: &Registry) -> Result<(), AuditError> {
        self.record(&self.granted(Event::Intent, grant, registry)).await
    }

    pub async fn completed(
        &self,
        grant: &Grant,
        registry: &Registry,
        credentials: &Credentials,
    ) -> Result<(), AuditError> {
        let credential = CredentialFields {
            kind: credentials.credential.kind(),
            location: &credentials.location,
            scope: credentials.scope,
            enforced_by: credentials.enforced_by,
            expires_at: credentials.expires_at.map(|it| it.to_string()),
        };
        self.record(&Record {
            credential: Some(credential),
            ..self.granted(Event::Completed, grant, registry)
        })
        .await
    }

    pub async fn failed(
        &self,
        grant: &Grant,
        registry: &Registry,
        reason: &'static str,
    ) -> Result<(), AuditError> {
        self.record(&Record {
            reason: Some(reason),
            ..self.granted(Event::Failed, grant, registry)
        })
        .await
    }

    fn granted<'a>(&self, event: Event, grant: &'a Grant, registry: &'a Registry) -> Record<'a> {
        Record {
            project: Some(grant.project().as_str()),
            registry: Some(grant.registry().as_str()),
            actions: Some(grant.actions()),
            rules: grant.rules(),
            trial_rules: grant.trial(),
            provider: Some(ProviderFields {
                name: &registry.provider.manifest.name,
                sha256: &registry.provider.digest,
            }),
            ..self.blank(event, grant.id(), grant.subject())
        }
    }

    fn blank<'a>(&self, event: Event, request_id: Ulid, subject: &'a Subject) -> Record<'a> {
        let cut = subject
            .sub
            .char_indices()
            .map(|(at, _)| at)
            .find(|at| *at >= MAX_SUB)
            .unwrap_or(subject.sub.len());
        Record {
            v: 1,
            time: self.clock.now(),
            event,
            request_id,
            subject: SubjectFields {
                issuer: &subject.issuer,
                sub: subject.sub.get(..cut).unwrap_or_default(),
            },
            project: None,
            registry: None,
            actions: None,
            rules: &[],
            trial_rules: &[],
            provider: None,
            credential: None,
            reason: None,
        }
    }

    async fn record(&self, record: &Record<'_>) -> Result<(), AuditError> {
        let mut line =
            serde_json::to_vec(record).map_err(|error| AuditError::Failed(error.into()))?;
        line.push(b'\n');
        let (segment, now) = (Arc::clone(&self.segment), self.clock.now());
        let write = tokio::task::spawn_blocking(move || {
            segment.lock().unwrap_or_else(PoisonError::into_inner).append(&line, now)
        });
        match tokio::time::timeout(DEADLINE, write).await {
            Ok(Ok(written)) => written.map_err(AuditError::Failed),
            Ok(Err(error)) => Err(AuditError::Failed(std::io::Error::other(error))),
            Err(_) => Err(AuditError::TimedOut),
        }
    }
}

/// The file that is written to. `None` at first and after a failure: the next record begins a new one.
struct Segment {
    directory: PathBuf,
    file: Option<File>,
}

impl Segment {
    fn append(&mut self, line: &[u8], now: Timestamp) -> std::io::Result<()> {
        if self.file.is_none() {
            self.open(now)?;
        }
        let Some(file) = &mut self.file else { return Err(std::io::Error::other("no segment")) };
        let written = file.write_all(line).and_then(|()| file.sync_data());
        if written.is_err() {
            self.file = None;
        }
        written
    }

    /// A new file, itself durable: without the sync of its folder a crash could take it away with everything in it.
    fn open(&mut self, now: Timestamp) -> std::io::Result<()> {
        let name = format!("{}-{}.jsonl", now.strftime("%Y%m%dT%H%M%SZ"), Ulid::generate());
        let path = self.directory.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        File::open(&self.directory)?.sync_all()?;
        self.file = Some(file);
        Ok(())
    }
}
