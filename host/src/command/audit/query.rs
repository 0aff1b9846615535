//! `rise-broker audit query`: prints the records that match.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Outcome, warn};
use super::shipped::{self, SearchedIn};
use super::{LogArguments, unreadable};
use crate::audit::verify::{Extent, extents};
use crate::audit::{Event, Folder, time_of};
use crate::ship::Search;

#[derive(clap::Args)]
pub(super) struct QueryArguments {
    #[command(flatten)]
    log: LogArguments,
    /// Search what every broker has shipped, instead of the log of this one.
    #[arg(long, value_name = "TARGET", conflicts_with = "directory")]
    from: Option<SearchedIn>,
    #[command(flatten)]
    pub filter: Filter,
}

/// A filter that is not given matches every record.
#[derive(clap::Args)]
pub(super) struct Filter {
    #[arg(long)]
    project: Option<String>,
    /// The `sub` of a token, also with its issuer: `local:ci`.
    #[arg(long)]
    subject: Option<String>,
    #[arg(long)]
    registry: Option<String>,
    /// An event such as issue.completed or authz.denied; issue matches all that begin with `issue.`
    #[arg(long, value_parser = event)]
    event: Option<String>,
    /// The id that the caller received, also as the session name in `CloudTrail`: `rise-ID`.
    #[arg(long, value_parser = request_id)]
    request_id: Option<String>,
    /// The request that a credential was minted for, as in the session name in `CloudTrail`. Lists
    /// every request that got this credential.
    #[arg(long, value_parser = request_id)]
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
    pub json: bool,
}

pub(super) async fn run(arguments: &QueryArguments) -> Outcome {
    let filter = &arguments.filter;
    filter.check()?;
    if let Some(SearchedIn::Postgres) = arguments.from {
        let show = |line: &str| filter.show(line.as_bytes());
        let settings = &arguments.log.settings;
        if shipped::query(settings, &filter.search(), show).await? == 0 {
            warn("no record matches");
        }
        return Ok(());
    }
    let disk = arguments.log.find()?.disk()?;
    let mut found = 0_u64;
    for extent in extents(&disk).map_err(unreadable)? {
        found += search(&disk, &extent, &arguments.filter).map_err(unreadable)?;
    }
    if found == 0 {
        warn(format_args!("no record matches{}", arguments.filter.unknown(&disk)));
    }
    Ok(())
}

fn search(disk: &Folder, extent: &Extent, filter: &Filter) -> std::io::Result<u64> {
    let mut out = std::io::stdout().lock();
    let mut found = 0;
    for line in extent.open(disk)?.split(b'\n') {
        let line = line?;
        let Some(text) = filter.show(&line) else { continue };
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

impl Filter {
    pub(super) fn check(&self) -> Outcome {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since >= until => Err(vec![format!(
                "--since {since} is not before --until {until}, so no record can match; exchange \
                 them"
            )]),
            _ => Ok(()),
        }
    }

    /// The same filter for records that were shipped.
    fn search(&self) -> Search {
        let is_wanted = |wanted: &str, name: &str| {
            name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Search {
            project: self.project.clone(),
            subject: self.subject.clone(),
            registry: self.registry.clone(),
            events: self.event.as_ref().map(|wanted| {
                let names = Event::ALL.map(Event::as_str).into_iter();
                names.filter(|name| is_wanted(wanted, name)).map(ToOwned::to_owned).collect()
            }),
            request_id: self.request_id.clone(),
            minted_by: self.minted_by.clone(),
            fingerprint: self.fingerprint.clone(),
            since: self.since,
            until: self.until,
        }
    }

    /// Says that no record at all has the registry that was asked for: it may be misspelt.
    fn unknown(&self, disk: &Folder) -> String {
        let Some(wanted) = &self.registry else { return String::new() };
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

    fn is_subject(&self, record: &Value) -> bool {
        let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
        let Some(wanted) = self.subject.as_deref() else { return true };
        text("/subject/sub").is_some_and(|sub| {
            let issuer = text("/subject/issuer").unwrap_or_default();
            sub == wanted
                || wanted
                    .strip_prefix(issuer)
                    .and_then(|rest| rest.strip_prefix(':'))
                    .is_some_and(|rest| rest == sub)
        })
    }

    /// The line as it is printed, if it matches. Lines that are not records are left to `verify`.
    pub(super) fn show(&self, line: &[u8]) -> Option<String> {
        let record: Value = serde_json::from_slice(line).ok()?;
        if !self.matches(&record) {
            return None;
        }
        Some(if self.json { String::from_utf8_lossy(line).into_owned() } else { short(&record) })
    }

    fn matches(&self, record: &Value) -> bool {
        let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
        let is = |wanted: &Option<String>, pointer| {
            wanted.as_deref().is_none_or(|wanted| text(pointer) == Some(wanted))
        };
        let event = |wanted: &str| {
            text("/event").is_some_and(|event| {
                event
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        let time = time_of(record);
        is(&self.project, "/project")
            && self.is_subject(record)
            && is(&self.registry, "/registry")
            && is(&self.request_id, "/request_id")
            && is(&self.minted_by, "/minted_by")
            && (is(&self.fingerprint, "/credential/fingerprint")
                || is(&self.fingerprint, "/registry_token/fingerprint"))
            && self.event.as_deref().is_none_or(event)
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time < until))
    }
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

/// A request id, also behind the prefix of a session's name.
fn request_id(text: &str) -> Result<String, String> {
    let id = text.rsplit(['-', '/']).next().unwrap_or_default();
    let id = id.to_ascii_uppercase();
    match id.parse::<ulid::Ulid>() {
        Ok(_) => Ok(id),
        Err(_) => Err("expected the id of a request, 26 characters such as \
            01M7XYNW8K6XBGT75WF4PVR3VR, or a session's name such as rise-01M7XYNW8K6XBGT75WF4PVR3VR"
            .to_owned()),
    }
}

/// An event, or the part before a dot of its name.
fn event(text: &str) -> Result<String, String> {
    let is_part = |name: &str| {
        name.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let names = Event::ALL.map(Event::as_str);
    if !text.is_empty() && names.into_iter().any(is_part) {
        return Ok(text.to_owned());
    }
    let groups: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_once('.')).map(|(group, _)| group).collect();
    let groups: Vec<&str> = groups.into_iter().collect();
    Err(format!("expected one of {}, or one of {}", names.join(", "), groups.join(", ")))
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: jiff::SignedDuration = text.parse().map_err(|_| {
        "expected a time such as 2026-11-21T10:00:00Z, or 90m or 24h for so long ago".to_owned()
    })?;
    crate::domain::Clock::system().now().checked_sub(ago).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct FilterArguments {
        #[command(flatten)]
        filter: Filter,
    }

    const RECORD: &str = concat!(
        r#"{"v":1,"time":"2026-11-21T10:00:00Z","event":"issue.completed","request_id":"01M7XYNW8K6XBGT75WF4PVR3VR","#,
        r#""subject":{"issuer":"local","sub":"ci"},"project":"my-app","registry":"prod","#,
        r#""actions":["pull","push"]}"#
    );

    fn shown(arguments: &str) -> Option<String> {
        let line = <FilterArguments as clap::Parser>::try_parse_from(
            format!("x {arguments}").split_whitespace(),
        );
        line.unwrap_or_else(|error| panic!("{error}")).filter.show(RECORD.as_bytes())
    }

    #[test]
    fn every_filter_must_match() {
        for (arguments, matches) in [
            ("", true),
            (
                "--project my-app --registry prod --subject ci --request-id \
                 rise-01M7XYNW8K6XBGT75WF4PVR3VR",
                true,
            ),
            ("--project my-app --registry dev", false),
            ("--subject local:ci --request-id 01m7xynw8k6xbgt75wf4pvr3vr", true),
            ("--subject locals:ci", false),
            ("--subject :ci", false),
            ("--event issue", true),
            ("--event issue.completed", true),
            ("--event issue.failed", false),
            ("--since 2026-11-21T10:00:00Z --until 2026-11-21T10:00:01Z", true),
            ("--until 2026-11-21T10:00:00Z", false),
            ("--since 2026-11-21T10:00:01Z", false),
        ] {
            assert_eq!(shown(arguments).is_some(), matches, "{arguments}");
        }
        assert_eq!(
            shown("").unwrap(),
            "2026-11-21T10:00:00Z  issue.completed  local:ci  my-app@prod  pull,push  \
             01M7XYNW8K6XBGT75WF4PVR3VR"
        );
        assert_eq!(shown("--json").unwrap(), RECORD);
        for wrong in ["nonsense", "issue.c", "issue.completed.x", ""] {
            let error = event(wrong).unwrap_err();
            assert!(error.contains("issue.completed, ") && error.contains("issue, "), "{error}");
        }
        assert!(time("yesterday").unwrap_err().contains("expected a time such as"));
        assert!(time("24h").unwrap() < Clock::system().now());
    }

    use crate::domain::Clock;
}
