//! `[audit.ship]`: where the records of the audit log are sent. Each target has a file here.

mod postgres;
mod s3;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Written;
use super::file::AuditFile;
use super::node::Problem;
use super::post::PostFile;
use crate::ship::ShipSettings;
use postgres::PostgresFile;
pub(crate) use postgres::connection;
use s3::S3File;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShipFile {
    /// The broker is not ready while a target is further behind.
    #[schemars(range(min = 1, max = 604_800))]
    pub required_lag_seconds: Option<u64>,
    /// Segments that every target has are deleted once all their records are older.
    #[schemars(range(min = 1, max = 3650))]
    pub delete_after_days: Option<u64>,
    pub postgres: Option<PostgresFile>,
    pub s3: Option<S3File>,
    pub https: Option<PostFile>,
    pub otlp: Option<PostFile>,
}

/// What is wrong with a target: the key in its table, and the message.
type Wrong = (&'static str, String);

/// The settings of `[audit.ship]`, with their problems and warnings.
pub(super) fn config(
    audit: &mut AuditFile,
    written: &Written,
    (problems, warnings): (&mut Vec<Problem>, &mut Vec<Problem>),
) -> ShipSettings {
    let file = std::mem::take(&mut audit.ship);
    let at = |target: &str, (key, message): Wrong| {
        written.problem(&format!("/audit/ship/{target}/{key}"), message)
    };
    let has_target =
        file.postgres.is_some() || file.s3.is_some() || file.https.is_some() || file.otlp.is_some();
    let mut wrong = |target, wrong| problems.push(at(target, wrong));
    let settings = ShipSettings {
        required_lag: file.required_lag_seconds.map(Duration::from_secs),
        delete_after: file.delete_after_days.map(|days| Duration::from_hours(days * 24)),
        postgres: file
            .postgres
            .and_then(|file| file.settings().map_err(|it| wrong("postgres", it)).ok()),
        s3: file.s3.and_then(|file| file.settings().map_err(|it| wrong("s3", it)).ok()),
        https: file.https.and_then(|file| file.settings().map_err(|it| wrong("https", it)).ok()),
        otlp: file.otlp.and_then(|file| file.settings().map_err(|it| wrong("otlp", it)).ok()),
    };
    let plain = settings.postgres.as_ref().and_then(postgres::plain);
    warnings.extend(plain.map(|message| at("postgres", ("url", message))));
    for (key, is_stated) in [
        ("required_lag_seconds", settings.required_lag.is_some()),
        ("delete_after_days", settings.delete_after.is_some()),
    ] {
        if is_stated && !has_target {
            let message = "has no effect, because records are shipped nowhere; add a table such as \
                           [audit.ship.postgres]";
            problems.push(written.problem(&format!("/audit/ship/{key}"), message));
        }
    }
    settings
}
