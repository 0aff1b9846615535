//! Which records somebody looks for: by `rise-broker audit`, or an operator over HTTP.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use ulid::Ulid;

use super::record::Event;
use super::time_of;

/// A part that is not given matches every record.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub project: Option<String>,
    /// The `sub` of a token, also with its issuer: `local:ci`.
    pub subject: Option<String>,
    pub registry: Option<String>,
    /// An event, or the part before a dot of its name.
    pub event: Option<String>,
    pub request_id: Option<String>,
    pub minted_by: Option<String>,
    /// Of a credential or of a token for a registry.
    pub fingerprint: Option<String>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// The first and the last moment, if no record can lie between them.
    pub fn contradiction(&self) -> Option<(Timestamp, Timestamp)> {
        self.since.zip(self.until).filter(|(since, until)| since >= until)
    }

    /// The record in this line, if it matches. Lines that are not records are left to `verify`.
    pub fn find(&self, line: &[u8]) -> Option<Value> {
        let text = std::str::from_utf8(line).ok().filter(|text| self.may_match(text))?;
        let record: Value = serde_json::from_str(text).ok()?;
        self.matches(&record).then_some(record)
    }

    /// Spares most lines the parser. The log writes these members without blanks and escapes.
    fn may_match(&self, line: &str) -> bool {
        let has = |name: &str, value: &Option<String>| {
            value.as_ref().is_none_or(|value| line.contains(&format!(r#""{name}":"{value}""#)))
        };
        has("request_id", &self.request_id)
            && has("minted_by", &self.minted_by)
            && has("fingerprint", &self.fingerprint)
    }

    pub fn matches(&self, record: &Value) -> bool {
        let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
        let is = |wanted: &Option<String>, pointer| {
            wanted.as_deref().is_none_or(|wanted| text(pointer) == Some(wanted))
        };
        let event = |wanted: &str| text("/event").is_some_and(|event| is_part(wanted, event));
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

    fn is_subject(&self, record: &Value) -> bool {
        let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
        let Some(wanted) = self.subject.as_deref() else { return true };
        text("/subject/sub").is_some_and(|sub| {
            let issuer = text("/subject/issuer").unwrap_or_default();
            let with_issuer = wanted.strip_prefix(issuer).and_then(|rest| rest.strip_prefix(':'));
            sub == wanted || with_issuer.is_some_and(|rest| rest == sub)
        })
    }
}

/// Whether this is the event, or the part before a dot of its name.
pub fn is_part(part: &str, event: &str) -> bool {
    event.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A request id, also behind the prefix of a session's name.
pub fn request_id(text: &str) -> Result<String, String> {
    let id = text.rsplit(['-', '/']).next().unwrap_or_default();
    let id = id.to_ascii_uppercase();
    match id.parse::<Ulid>() {
        Ok(_) => Ok(id),
        Err(_) => Err("expected the id of a request, 26 characters such as \
            01M7XYNW8K6XBGT75WF4PVR3VR, or a session's name such as rise-01M7XYNW8K6XBGT75WF4PVR3VR"
            .to_owned()),
    }
}

/// An event, or the part before a dot of its name.
pub fn event(text: &str) -> Result<String, String> {
    let names = Event::ALL.map(Event::as_str);
    if !text.is_empty() && names.into_iter().any(|name| is_part(text, name)) {
        return Ok(text.to_owned());
    }
    let groups: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_once('.')).map(|(group, _)| group).collect();
    let groups: Vec<&str> = groups.into_iter().collect();
    Err(format!("expected one of {}, or one of {}", names.join(", "), groups.join(", ")))
}

/// A time, or how long before `now` it was.
pub fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago: SignedDuration = text.parse().map_err(|_| {
        "expected a time such as 2026-11-21T10:00:00Z, or 90m or 24h for so long ago".to_owned()
    })?;
    now.checked_sub(ago).map_err(|error| error.to_string())
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
    fn every_part_must_match() {
        let some = |text: &str| Some(text.to_owned());
        let at = |text: &str| Some(text.parse().unwrap());
        let all = Filter::default;
        let id = "01M7XYNW8K6XBGT75WF4PVR3VR";
        for (filter, matches) in [
            (all(), true),
            (Filter { project: some("my-app"), registry: some("prod"), ..all() }, true),
            (Filter { subject: some("ci"), request_id: some(id), ..all() }, true),
            (Filter { project: some("my-app"), registry: some("dev"), ..all() }, false),
            (Filter { subject: some("local:ci"), ..all() }, true),
            (Filter { subject: some("locals:ci"), ..all() }, false),
            (Filter { subject: some(":ci"), ..all() }, false),
            (Filter { event: some("issue"), ..all() }, true),
            (Filter { event: some("issue.completed"), ..all() }, true),
            (Filter { event: some("issue.failed"), ..all() }, false),
            (Filter { minted_by: some(id), ..all() }, false),
            (Filter { since: at("2026-11-21T10:00:00Z"), ..all() }, true),
            (Filter { until: at("2026-11-21T10:00:01Z"), ..all() }, true),
            (Filter { until: at("2026-11-21T10:00:00Z"), ..all() }, false),
            (Filter { since: at("2026-11-21T10:00:01Z"), ..all() }, false),
        ] {
            assert_eq!(filter.find(RECORD.as_bytes()).is_some(), matches, "{filter:?}");
        }
        assert!(all().find(b"{}x").is_none());
    }

    #[test]
    fn values_are_read_strictly() {
        for wrong in ["nonsense", "issue.c", "issue.completed.x", ""] {
            let error = event(wrong).unwrap_err();
            assert!(error.contains("issue.completed, ") && error.contains("issue, "), "{error}");
        }
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        assert!(time("yesterday", now).unwrap_err().contains("expected a time such as"));
        assert_eq!(time("24h", now).unwrap().to_string(), "2026-11-20T10:00:00Z");
        assert_eq!(
            request_id("rise-01m7xynw8k6xbgt75wf4pvr3vr").unwrap(),
            "01M7XYNW8K6XBGT75WF4PVR3VR"
        );
    }
}
