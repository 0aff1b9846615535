//! The target `postgres`: a table of records in a PostgreSQL database.
//!
//! `connect` opens connections, `schema` makes and changes the tables (`audit migrate`), and `read`
//! is for `audit query` and `audit verify`. A record is a row: its line, byte for byte, and columns
//! for searching, which are copies of members of the line.
//!
//! **Invariant:** one record is one row, whatever was sent twice: the key is its chain, its number
//! and its time, which is the same in every copy of the record.

mod connect;
mod read;
mod schema;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::record::FoundBy;
use super::{Batch, BatchLimits, PostgresSettings, ShipError, ShippedRecord, Target};
use connect::Connection;
pub use read::Search;
pub use schema::Migrated;

/// One round trip for so many records.
const RECORDS: usize = 1000;
const BYTES: usize = 1 << 20;
const GATHER: std::time::Duration = std::time::Duration::from_millis(200);

const INSERT: &str = "\
INSERT INTO rise_audit.records
    (chain, seq, time, event, request_id, minted_by, issuer, sub, project, registry, fingerprint,
     line)
SELECT chain, seq, time, event, request_id, minted_by, issuer, sub, project, registry,
       fingerprint, line
FROM unnest($1::text[], $2::int8[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
            $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
    AS record (chain, seq, time, event, request_id, minted_by, issuer, sub, project, registry,
               fingerprint, line)
ON CONFLICT DO NOTHING";

/// Sends records to PostgreSQL, and reads them there.
pub struct Postgres {
    settings: PostgresSettings,
    /// Of the last statement, if it worked.
    connection: Option<Connection>,
}

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("cannot use the file {file}: {why}")]
    Authorities { file: String, why: String },
    #[error("cannot connect to PostgreSQL at {address}: {}", explain(source))]
    Connect { address: String, source: tokio_postgres::Error },
    /// Where the password is stated depends on whose it is.
    #[error("PostgreSQL at {0} asks for a password, and none is stated")]
    NoPassword(String),
    #[error("PostgreSQL: {0} (SQLSTATE 42501); {1} is not the owner of this database")]
    NotOwner(String, String),
    #[error("PostgreSQL at {0} does not answer within {1} seconds")]
    TimedOut(String, u64),
    #[error("PostgreSQL: {}", explain(.0))]
    Failed(#[from] tokio_postgres::Error),
    #[error(
        "the schema `rise_audit` has version {found}, and this program knows versions up to \
         {known}; use the newer program"
    )]
    Newer { found: i32, known: i32 },
    #[error(
        "the database has the encoding {0}, and records are stored byte for byte only in UTF8; \
         create one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
    )]
    Encoding(String),
    #[error("{0}")]
    Unexpected(String),
}

impl Postgres {
    pub fn new(settings: PostgresSettings) -> Self {
        Self { settings, connection: None }
    }

    /// The connection of the last statement, or a new one. The caller keeps it after a success, and
    /// only then: nobody knows what a connection still does whose statement failed or was given up.
    async fn connected(&mut self) -> Result<Connection, PostgresError> {
        let usable = self.connection.take().filter(|connection| !connection.client.is_closed());
        match usable {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.settings).await,
        }
    }

    async fn insert(&mut self, records: &[ShippedRecord]) -> Result<(), PostgresError> {
        let chains: Vec<String> = records.iter().map(|record| record.chain.to_string()).collect();
        let numbers: Vec<i64> =
            records.iter().map(|record| i64::try_from(record.seq).unwrap_or(i64::MAX)).collect();
        let times: Vec<Timestamp> = records.iter().map(stored_time).collect();
        let events: Vec<&str> = column(records, |it| &*it.event);
        let request_ids = column(records, |it| it.request_id.as_deref());
        let minted_by = column(records, |it| it.minted_by.as_deref());
        let issuers = column(records, |it| it.issuer.as_deref());
        let subs = column(records, |it| it.sub.as_deref());
        let projects = column(records, |it| it.project.as_deref());
        let registries = column(records, |it| it.registry.as_deref());
        let fingerprints = column(records, |it| it.fingerprint.as_deref());
        let lines: Vec<&str> = records.iter().map(|record| record.line.as_str()).collect();
        let connection = self.connected().await?;
        let parameters: [(&(dyn ToSql + Sync), Type); 12] = [
            text(&chains),
            (&numbers, Type::INT8_ARRAY),
            (&times, Type::TIMESTAMPTZ_ARRAY),
            text(&events),
            text(&request_ids),
            text(&minted_by),
            text(&issuers),
            text(&subs),
            text(&projects),
            text(&registries),
            text(&fingerprints),
            text(&lines),
        ];
        connection.client.execute_typed(INSERT, &parameters).await?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// A column of time has microseconds. A record must always get the same one, as part of its key.
fn stored_time(record: &ShippedRecord) -> Timestamp {
    Timestamp::from_microsecond(record.time.as_microsecond()).unwrap_or(record.time)
}

fn text(column: &(dyn ToSql + Sync)) -> (&(dyn ToSql + Sync), Type) {
    (column, Type::TEXT_ARRAY)
}

fn column<'a, T>(records: &'a [ShippedRecord], of: impl Fn(&'a FoundBy) -> T) -> Vec<T> {
    records.iter().map(|record| of(&record.found_by)).collect()
}

#[async_trait]
impl Target for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { records: RECORDS, bytes: BYTES, gather: GATHER }
    }

    async fn send(&mut self, batch: &Batch) -> Result<usize, ShipError> {
        let sent = self.insert(&batch.records).await;
        sent.map(|()| 0).map_err(|error| ShipError::new(error.reason(), error.to_string()))
    }
}

impl PostgresError {
    fn connect(address: String, source: tokio_postgres::Error) -> Self {
        let is_answer = source.as_db_error().is_some();
        if !is_answer && explain(&source).contains("password missing") {
            Self::NoPassword(address)
        } else {
            Self::Connect { address, source }
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::TimedOut(..) => "timed-out",
            Self::Authorities { .. } => "unavailable",
            Self::NoPassword(_) | Self::NotOwner(..) => "denied",
            Self::Connect { source: error, .. } | Self::Failed(error) => reason(error),
            Self::Newer { .. } | Self::Encoding(_) | Self::Unexpected(_) => "rejected",
        }
    }
}

fn reason(error: &tokio_postgres::Error) -> &'static str {
    let Some(code) = error.code() else { return "unavailable" };
    if *code == SqlState::DISK_FULL {
        return "full";
    }
    if [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code) {
        return "timed-out";
    }
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return "denied";
    }
    match code.code().get(..2) {
        Some("08" | "53" | "57") => "unavailable",
        Some("28") => "denied",
        _ => "rejected",
    }
}

/// What PostgreSQL says, and what helps.
fn explain(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    let Some(found) = error.as_db_error() else {
        let mut texts = vec![error.to_string()];
        let mut source = error.source();
        while let Some(cause) = source {
            texts.push(cause.to_string());
            source = cause.source();
        }
        texts.dedup();
        return texts.join(": ");
    };
    let (code, message) = (found.code(), found.message());
    let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    let advice = if missing.contains(code) {
        "; run `rise-broker audit migrate` as the owner of the database"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "; the role needs USAGE on the schema rise_audit, and INSERT and SELECT on \
         rise_audit.records, which `rise-broker audit migrate` grants"
    } else {
        ""
    };
    format!("{message} (SQLSTATE {}){advice}", code.code())
}
