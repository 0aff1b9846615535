//! `rise-broker audit query`: prints the records that match.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Outcome, warn};
use super::shipped::{self, SearchedIn};
use super::{LogArguments, unreadable};
use crate::audit::verify::{Extent, extents};
use crate::audit::{Event, Filter, Folder, filter};
use crate::domain::Clock;
use crate::ship::Search;

#[derive(clap::Args)]
pub(super) struct QueryArguments {
    #[command(flatten)]
    log: LogArguments,
    /// Search what every broker has shipped, instead of the log of this one.
    #[arg(long, value_name = "TARGET", conflicts_with = "directory")]
    from: Option<SearchedIn>,
    #[command(flatten)]
    filter: FilterArguments,
}

/// A filter that is not given matches every record.
#[derive(clap::Args)]
pub(super) struct FilterArguments {
    #[arg(long)]
    project: Option<String>,
    /// The `sub` of a token, also with its issuer: `local:ci`.
    #[arg(long)]
    subject: Option<String>,
    #[arg(long)]
    registry: Option<String>,
    /// An event such as issue.completed or authz.denied; issue matches all that begin with `issue.`
    #[arg(long, value_parser = filter::event)]
    event: Option<String>,
    /// The id that the caller received, also as the session name in `CloudTrail`: `rise-ID`.
    #[arg(long, value_parser = filter::request_id)]
    request_id: Option<String>,
    /// The request that a credential was minted for, as in the session name in `CloudTrail`. Lists
    /// every request that got this credential.
    #[arg(long, value_parser = filter::request_id)]
    minted_by: Option<String>,
    /// What `audit fingerprint` prints for a password: the records of the credential or token.
    #[arg(long)]
    fingerprint: Option<String>,
    /// From this time on, such as 2026-11-21T10:00:00Z; 90m or 24h means so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Print the records as the log has them.
    #[arg(long)]
    json: bool,
}

/// The records that match, as they are printed.
pub(super) struct Shown {
    filter: Filter,
    json: bool,
}

pub(super) async fn run(arguments: &QueryArguments) -> Outcome {
    let shown = arguments.filter.shown()?;
    if let Some(SearchedIn::Postgres) = arguments.from {
        let show = |line: &str| shown.text(line.as_bytes());
        let settings = &arguments.log.settings;
        if shipped::query(settings, &search_of(&shown.filter), show).await? == 0 {
            warn("no record matches");
        }
        return Ok(());
    }
    let disk = arguments.log.find()?.disk()?;
    let mut found = 0_u64;
    for extent in extents(&disk).map_err(unreadable)? {
        found += search(&disk, &extent, &shown).map_err(unreadable)?;
    }
    if found == 0 {
        warn(format_args!("no record matches{}", unknown(&shown.filter, &disk)));
    }
    Ok(())
}

fn search(disk: &Folder, extent: &Extent, shown: &Shown) -> std::io::Result<u64> {
    let mut out = std::io::stdout().lock();
    let mut found = 0;
    for line in extent.open(disk)?.split(b'\n') {
        let line = line?;
        let Some(text) = shown.text(&line) else { continue };
        found += 1;
        if let Err(error) = writeln!(out, "{text}") {
            // The reader, such as `| head`, has enough.
            return if error.kind() == std::io::ErrorKind::BrokenPipe {
                Ok(found)
            } else {
                Err(error)
            };
        }
    }
    Ok(found)
}

impl FilterArguments {
    pub(super) fn shown(&self) -> Result<Shown, Vec<String>> {
        let filter = Filter {
            project: self.project.clone(),
            subject: self.subject.clone(),
            registry: self.registry.clone(),
            event: self.event.clone(),
            request_id: self.request_id.clone(),
            minted_by: self.minted_by.clone(),
            fingerprint: self.fingerprint.clone(),
            since: self.since,
            until: self.until,
        };
        match filter.contradiction() {
            Some((since, until)) => Err(vec![format!(
                "--since {since} is not before --until {until}, so no record can match; exchange \
                 them"
            )]),
            None => Ok(Shown { filter, json: self.json }),
        }
    }
}

impl Shown {
    /// The line as it is printed, if it matches.
    pub(super) fn text(&self, line: &[u8]) -> Option<String> {
        let record = self.filter.find(line)?;
        Some(if self.json { String::from_utf8_lossy(line).into_owned() } else { short(&record) })
    }
}

/// The same filter for records that were shipped.
fn search_of(filter: &Filter) -> Search {
    let names = |wanted: &String| {
        let names = Event::ALL.map(Event::as_str).into_iter();
        let names = names.filter(|name| filter::is_part(wanted, name));
        names.map(ToOwned::to_owned).collect()
    };
    Search {
        project: filter.project.clone(),
        subject: filter.subject.clone(),
        registry: filter.registry.clone(),
        events: filter.event.as_ref().map(names),
        request_id: filter.request_id.clone(),
        minted_by: filter.minted_by.clone(),
        fingerprint: filter.fingerprint.clone(),
        since: filter.since,
        until: filter.until,
    }
}

/// Says that no record at all has the registry that was asked for: it may be misspelt.
fn unknown(filter: &Filter, disk: &Folder) -> String {
    let Some(wanted) = &filter.registry else { return String::new() };
    let registries = registries(disk).unwrap_or_default();
    if registries.contains(wanted) {
        return String::new();
    }
    let registries: Vec<String> = registries.into_iter().take(16).collect();
    let known = match registries.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    format!("; no record has the registry `{wanted}`, the log has {known}")
}

/// The registries that records name.
fn registries(disk: &Folder) -> std::io::Result<BTreeSet<String>> {
    let mut registries = BTreeSet::new();
    for extent in extents(disk)? {
        for line in extent.open(disk)?.split(b'\n') {
            let record: Option<Value> = serde_json::from_slice(&line?).ok();
            let name = record.as_ref().and_then(|record| record.get("registry")?.as_str());
            registries.extend(name.map(ToOwned::to_owned));
        }
    }
    Ok(registries)
}

/// A record in one line, for people.
fn short(record: &Value) -> String {
    let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
    let mut words: Vec<String> =
        ["/time", "/event"].into_iter().filter_map(text).map(ToOwned::to_owned).collect();
    if let (Some(issuer), Some(sub)) = (text("/subject/issuer"), text("/subject/sub")) {
        words.push(format!("{issuer}:{sub}"));
    }
    if let (Some(project), Some(registry)) = (text("/project"), text("/registry")) {
        words.push(format!("{project}@{registry}"));
    }
    if let Some(actions) = record.get("actions").and_then(Value::as_array) {
        words.push(actions.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
    }
    words.extend(["/reason", "/request_id"].into_iter().filter_map(text).map(ToOwned::to_owned));
    if let Some(summary) = record.get("summary") {
        words.push(summary.to_string());
    }
    // The log escapes control characters. Here the texts are not JSON, so they are escaped again.
    words
        .join("  ")
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

fn time(text: &str) -> Result<Timestamp, String> {
    filter::time(text, Clock::system().now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = concat!(
        r#"{"v":1,"time":"2026-11-21T10:00:00Z","event":"issue.completed","request_id":"01M7XYNW8K6XBGT75WF4PVR3VR","#,
        r#""subject":{"issuer":"local","sub":"ci"},"project":"my-app","registry":"prod","#,
        r#""actions":["pull","push"]}"#
    );

    #[test]
    fn a_record_is_printed_for_people_or_as_it_is() {
        let text = |json| {
            let shown = Shown { filter: Filter::default(), json };
            shown.text(RECORD.as_bytes()).unwrap()
        };
        assert_eq!(
            text(false),
            "2026-11-21T10:00:00Z  issue.completed  local:ci  my-app@prod  pull,push  \
             01M7XYNW8K6XBGT75WF4PVR3VR"
        );
        assert_eq!(text(true), RECORD);
    }
}
