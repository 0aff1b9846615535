//! Makes the schema `rise_audit`, and brings an older one up to date.
//!
//! To change it: another entry of [`VERSIONS`], which must leave brokers of the version before at
//! work. Partitions are made for each month from the oldest record of the last ten years on until
//! two years from now; records of any other time are in the default partition.
//!
//! **Invariant:** no row can hold up a migration: a broker writes its rows with any time.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use super::connect::Connection;
use super::{Postgres, PostgresError};

/// Months that have a partition ahead of time.
const AHEAD: i32 = 24;
/// Years that may have partitions. A record that states a time before them has none.
const BACK: i32 = 10;
/// "rise": no other program that uses this database takes the same lock.
const LOCK: i64 = 0x7269_7365;

/// The statements of each version.
const VERSIONS: [&str; 2] = [
    "CREATE TABLE rise_audit.records (
         chain text NOT NULL,
         seq bigint NOT NULL,
         time timestamptz NOT NULL,
         event text NOT NULL,
         request_id text,
         minted_by text,
         issuer text,
         sub text,
         project text,
         registry text,
         fingerprint text,
         line text NOT NULL,
         PRIMARY KEY (chain, seq, time)
     ) PARTITION BY RANGE (time);
     CREATE TABLE rise_audit.records_default PARTITION OF rise_audit.records DEFAULT;",
    "CREATE INDEX records_time ON rise_audit.records (time);
     CREATE INDEX records_event ON rise_audit.records (event, time);
     CREATE INDEX records_project ON rise_audit.records (project, time)
         WHERE project IS NOT NULL;
     CREATE INDEX records_sub ON rise_audit.records (sub, time) WHERE sub IS NOT NULL;
     CREATE INDEX records_request_id ON rise_audit.records (request_id)
         WHERE request_id IS NOT NULL;
     CREATE INDEX records_minted_by ON rise_audit.records (minted_by)
         WHERE minted_by IS NOT NULL;
     CREATE INDEX records_fingerprint ON rise_audit.records (fingerprint)
         WHERE fingerprint IS NOT NULL;",
];

/// What a migration did.
#[derive(Debug, Default)]
pub struct Migrated {
    /// The version before; 0: there was no schema.
    pub from: i32,
    pub to: i32,
    /// Months that have a partition from now on.
    pub partitions: u64,
    /// The role that may ship and read from now on.
    pub granted: Option<String>,
}

impl Postgres {
    /// Makes or changes the schema in one transaction. Several brokers may do it at once: one
    /// waits for the other. `shipper` is the role that ships, if it is not the owner.
    pub async fn migrate(
        &self,
        now: Timestamp,
        shipper: Option<&str>,
    ) -> Result<Migrated, PostgresError> {
        let role = self.settings.connection.get_user().unwrap_or_default();
        self.change(now, shipper).await.map_err(|error| not_owner(error, role))
    }

    async fn change(
        &self,
        now: Timestamp,
        shipper: Option<&str>,
    ) -> Result<Migrated, PostgresError> {
        let mut connection = Connection::open_unbounded(&self.settings).await?;
        let encoding = connection.client.query_one("SHOW server_encoding", &[]).await?;
        let encoding: String = encoding.try_get(0)?;
        if encoding != "UTF8" {
            return Err(PostgresError::Encoding(encoding));
        }
        let transaction = connection.client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let from = version(&transaction).await?;
        let known = i32::try_from(VERSIONS.len()).unwrap_or(i32::MAX);
        if from > known {
            return Err(PostgresError::Newer { found: from, known });
        }
        let missing = VERSIONS.iter().enumerate().skip(usize::try_from(from).unwrap_or(0));
        for (index, statements) in missing {
            transaction.batch_execute(statements).await?;
            let version = i32::try_from(index + 1).unwrap_or(i32::MAX);
            let note = "INSERT INTO rise_audit.versions (version) VALUES ($1)";
            transaction.execute(note, &[&version]).await?;
        }
        let partitions = add_partitions(&transaction, now).await?;
        let granted = grant(&transaction, shipper).await?;
        transaction.commit().await?;
        Ok(Migrated { from, to: known, partitions, granted })
    }
}

/// Only the owner may do what a migration does, so no grant helps.
fn not_owner(error: PostgresError, role: &str) -> PostgresError {
    let PostgresError::Failed(failed) = &error else { return error };
    let found = failed.as_db_error();
    match found.filter(|found| *found.code() == SqlState::INSUFFICIENT_PRIVILEGE) {
        Some(found) => PostgresError::NotOwner(found.message().to_owned(), role.to_owned()),
        None => error,
    }
}

/// The version of the schema, which has a place for it afterwards.
async fn version(transaction: &Transaction<'_>) -> Result<i32, PostgresError> {
    transaction
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS rise_audit;
             CREATE TABLE IF NOT EXISTS rise_audit.versions (
                 version int PRIMARY KEY,
                 at timestamptz NOT NULL DEFAULT now()
             );",
        )
        .await?;
    let newest = "SELECT coalesce(max(version), 0) FROM rise_audit.versions";
    Ok(transaction.query_one(newest, &[]).await?.try_get(0)?)
}

/// Makes the partitions that are missing, and moves the records of the default partition there.
async fn add_partitions(
    transaction: &Transaction<'_>,
    now: Timestamp,
) -> Result<u64, PostgresError> {
    let beyond = || PostgresError::Unexpected("the clock is beyond the calendar".to_owned());
    let today = now.to_zoned(TimeZone::UTC).date();
    let earliest = today.checked_sub(BACK.years()).map_err(|_| beyond())?.first_of_month();
    let earliest = earliest.to_zoned(TimeZone::UTC).map_err(|_| beyond())?.timestamp();
    let oldest = "SELECT to_char(min(time) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                  FROM rise_audit.records_default WHERE time >= $1";
    let oldest: Option<String> = transaction.query_one(oldest, &[&earliest]).await?.try_get(0)?;
    let first = oldest.and_then(|text| text.parse::<Date>().ok()).unwrap_or(today).min(today);
    let last = today.checked_add(AHEAD.months()).map_err(|_| beyond())?;
    let (mut month, mut made) = (first.first_of_month(), 0);
    while month <= last {
        let next = month.checked_add(1.month()).map_err(|_| beyond())?;
        made += u64::from(add_partition(transaction, month, next).await?);
        month = next;
    }
    Ok(made)
}

async fn add_partition(
    transaction: &Transaction<'_>,
    month: Date,
    next: Date,
) -> Result<bool, PostgresError> {
    let table = format!("rise_audit.records_{}", month.strftime("%Y_%m"));
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    if transaction.query_one(exists, &[&table]).await?.try_get(0)? {
        return Ok(false);
    }
    let (from, to) = (format!("'{month} 00:00:00+00'"), format!("'{next} 00:00:00+00'"));
    // Brokers ship meanwhile. A record that came into the default partition after those of its
    // month were moved would not let the month be attached. They wait for the lock, or try again.
    let statements = format!(
        "LOCK TABLE rise_audit.records_default IN ACCESS EXCLUSIVE MODE;
         CREATE TABLE {table} (LIKE rise_audit.records INCLUDING ALL);
         WITH moved AS (
             DELETE FROM rise_audit.records_default WHERE time >= {from} AND time < {to}
             RETURNING *
         ) INSERT INTO {table} SELECT * FROM moved;
         ALTER TABLE rise_audit.records
             ATTACH PARTITION {table} FOR VALUES FROM ({from}) TO ({to});"
    );
    transaction.batch_execute(&statements).await?;
    Ok(true)
}

/// Lets the role that ships do so, if it is not the one that migrates.
async fn grant(
    transaction: &Transaction<'_>,
    shipper: Option<&str>,
) -> Result<Option<String>, PostgresError> {
    let Some(shipper) = shipper else { return Ok(None) };
    let own: String = transaction.query_one("SELECT current_user::text", &[]).await?.try_get(0)?;
    if own == shipper {
        return Ok(None);
    }
    let quoted = "SELECT quote_ident($1)";
    let role: String = transaction.query_one(quoted, &[&shipper]).await?.try_get(0)?;
    let statements = format!(
        "GRANT USAGE ON SCHEMA rise_audit TO {role};
         GRANT INSERT, SELECT ON rise_audit.records TO {role};"
    );
    transaction.batch_execute(&statements).await?;
    Ok(Some(shipper.to_owned()))
}
