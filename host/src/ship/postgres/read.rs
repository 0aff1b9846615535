//! Reads records back: a search by the indexed columns, and all of them in the order of their
//! chains. Rows are streamed, so that neither takes memory.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::connect::Connection;
use super::{Postgres, PostgresError, stored_time};
use crate::audit::Copies;
use crate::ship::ShippedRecord;

/// What records are wanted. What is not given matches every record.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub project: Option<String>,
    /// The `sub` of a token, also with its issuer: `local:ci`.
    pub subject: Option<String>,
    pub registry: Option<String>,
    /// One of these events.
    pub events: Option<Vec<String>>,
    pub request_id: Option<String>,
    pub minted_by: Option<String>,
    pub fingerprint: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

const ALL: &str = "\
SELECT chain, seq, time, event, request_id, minted_by, issuer, sub, project, registry, fingerprint,
       line
FROM rise_audit.records ORDER BY chain, seq, time";

impl Postgres {
    /// Calls `each` with the line of every record that matches, oldest first, until it returns
    /// `false`.
    pub async fn search(
        &self,
        search: &Search,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), PostgresError> {
        let connection = Connection::open_unbounded(&self.settings).await?;
        let Conditions { texts, values } = conditions(search);
        let statement = format!(
            "SELECT line FROM rise_audit.records WHERE {} ORDER BY time, chain, seq",
            texts.join(" AND ")
        );
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
        let mut rows = pin!(connection.client.query_typed_raw(&statement, values).await?);
        while let Some(row) = rows.try_next().await? {
            if !each(row.try_get(0)?) {
                break;
            }
        }
        Ok(())
    }

    /// Checks all records.
    pub async fn check(&self, copies: &mut Copies) -> Result<(), PostgresError> {
        let connection = Connection::open_unbounded(&self.settings).await?;
        let none: [(&(dyn ToSql + Sync), Type); 0] = [];
        let mut rows = pin!(connection.client.query_typed_raw(ALL, none).await?);
        while let Some(row) = rows.try_next().await? {
            let (chain, seq): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
            let line: &str = row.try_get(11)?;
            let Ok(chain) = chain.parse() else {
                copies.add_strange(chain);
                continue;
            };
            let problem = contradiction(&row, line)?;
            copies.add(chain, u64::try_from(seq).unwrap_or(0), line.as_bytes(), problem);
        }
        Ok(())
    }
}

/// A search would miss a record whose columns differ from its line.
fn contradiction(row: &Row, line: &str) -> Result<Option<&'static str>, PostgresError> {
    // What is no record is reported as such.
    let Some(record) = ShippedRecord::parse(line.as_bytes()) else { return Ok(None) };
    let found_by = &record.found_by;
    // A column may have a time that no record can have, such as `infinity`.
    let time = row.try_get::<_, Timestamp>(2).ok();
    let mut is_same =
        time == Some(stored_time(&record)) && row.try_get::<_, &str>(3)? == found_by.event;
    for (index, value) in [
        (4, &found_by.request_id),
        (5, &found_by.minted_by),
        (6, &found_by.issuer),
        (7, &found_by.sub),
        (8, &found_by.project),
        (9, &found_by.registry),
        (10, &found_by.fingerprint),
    ] {
        is_same &= row.try_get::<_, Option<&str>>(index)? == value.as_deref();
    }
    let why = "the columns of its row are not those of its line: somebody changed them, and \
               `audit query` cannot find it";
    Ok((!is_same).then_some(why))
}

/// The conditions of a statement, and their values.
struct Conditions {
    texts: Vec<String>,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Conditions {
    /// Adds a condition in which `$` stands for the value.
    fn add(&mut self, text: &str, value: impl ToSql + Sync + Send + 'static, kind: Type) {
        self.values.push((Box::new(value), kind));
        self.texts.push(text.replace('$', &format!("${}", self.values.len())));
    }

    fn add_text(&mut self, column: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(&format!("{column} = $"), value.clone(), Type::TEXT);
        }
    }
}

fn conditions(search: &Search) -> Conditions {
    let mut conditions = Conditions { texts: vec!["true".to_owned()], values: Vec::new() };
    conditions.add_text("project", search.project.as_ref());
    conditions.add_text("registry", search.registry.as_ref());
    conditions.add_text("request_id", search.request_id.as_ref());
    conditions.add_text("minted_by", search.minted_by.as_ref());
    conditions.add_text("fingerprint", search.fingerprint.as_ref());
    if let Some(subject) = &search.subject {
        // An index has `sub`; it may be everything behind any colon.
        let behind = subject.match_indices(':').filter_map(|(at, _)| subject.get(at + 1..));
        let subs: Vec<String> = behind.chain([subject.as_str()]).map(str::to_owned).collect();
        conditions.add("sub = ANY($)", subs, Type::TEXT_ARRAY);
        conditions.add("$ IN (sub, issuer || ':' || sub)", subject.clone(), Type::TEXT);
    }
    if let Some(events) = &search.events {
        conditions.add("event = ANY($)", events.clone(), Type::TEXT_ARRAY);
    }
    if let Some(since) = search.since {
        conditions.add("time >= $", since, Type::TIMESTAMPTZ);
    }
    if let Some(until) = search.until {
        conditions.add("time < $", until, Type::TIMESTAMPTZ);
    }
    conditions
}
