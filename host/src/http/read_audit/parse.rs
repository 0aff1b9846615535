//! The query becomes a filter.

use jiff::Timestamp;
use utoipa::IntoParams;

use crate::audit::{Filter, filter};
use crate::domain::{Project, RegistryName};
use crate::http::body;
use crate::http::problem::Failure;

const LIMIT: usize = 100;
const HIGHEST_LIMIT: usize = 1000;

pub(super) struct AuditRequest {
    pub(super) filter: Filter,
    pub(super) limit: usize,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the description of the API")]
pub(super) struct AuditParameters {
    #[param(
        min_length = 1,
        max_length = 128,
        pattern = "^[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*$"
    )]
    project: Option<String>,
    #[param(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
    registry: Option<String>,
    /// The `sub` of a token, also with the issuer's name before it: `ISSUER:SUB`.
    #[param(min_length = 1)]
    subject: Option<String>,
    /// An event, or the part before the dot of its name, such as `issue`.
    #[param(pattern = "^[a-z_]+(\\.[a-z_]+)*$")]
    event: Option<String>,
    /// The request that the record is about.
    #[param(pattern = "^([a-z]+-)?[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{26}$")]
    request_id: Option<String>,
    /// The request that a credential was minted for: all records of this credential.
    #[param(pattern = "^([a-z]+-)?[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{26}$")]
    minted_by: Option<String>,
    /// What `rise-broker audit fingerprint` prints for a password.
    #[param(pattern = "^[0-9a-f]{32}$")]
    fingerprint: Option<String>,
    /// From this time on: RFC 3339, or so long ago, such as `24h`.
    #[param(min_length = 2)]
    since: Option<String>,
    /// Before this time.
    #[param(min_length = 2)]
    until: Option<String>,
    /// The most records in the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
}

pub(super) fn query(query: &str, now: Timestamp) -> Result<AuditRequest, Failure> {
    let (mut filter, mut limit) = (Filter::default(), None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        let wrong = |error: &dyn std::fmt::Display| invalid(format!("`{name}`: {error}."));
        let text = |parsed: Result<String, String>| parsed.map_err(|error| wrong(&error));
        let time = |text: &str| filter::time(text, now).map_err(|error| wrong(&error));
        let previous = match &*name {
            "project" => {
                let project: Project = value.parse().map_err(|error| wrong(&error))?;
                filter.project.replace(project.to_string()).is_some()
            }
            "registry" => {
                let registry: RegistryName = value.parse().map_err(|error| wrong(&error))?;
                filter.registry.replace(registry.to_string()).is_some()
            }
            "subject" if value.is_empty() => return Err(wrong(&"expected a text")),
            "subject" => filter.subject.replace(value).is_some(),
            "event" => filter.event.replace(text(filter::event(&value))?).is_some(),
            "request_id" => filter.request_id.replace(text(filter::request_id(&value))?).is_some(),
            "minted_by" => filter.minted_by.replace(text(filter::request_id(&value))?).is_some(),
            "fingerprint" if !is_fingerprint(&value) => {
                return Err(wrong(&"expected 32 hexadecimal digits"));
            }
            "fingerprint" => filter.fingerprint.replace(value).is_some(),
            "since" => filter.since.replace(time(&value)?).is_some(),
            "until" => filter.until.replace(time(&value)?).is_some(),
            "limit" => {
                let number = value.parse().ok().filter(|number| is_limit(*number));
                let number = number.ok_or_else(|| wrong(&"expected a number from 1 to 1000"))?;
                limit.replace(number).is_some()
            }
            unknown => {
                return Err(invalid(format!(
                    "The query has an unknown parameter{}. The parameters are `project`, \
                     `registry`, `subject`, `event`, `request_id`, `minted_by`, `fingerprint`, \
                     `since`, `until` and `limit`.",
                    body::named(unknown)
                )));
            }
        };
        if previous {
            return Err(invalid(format!("The query has `{name}` twice.")));
        }
    }
    if let Some((since, until)) = filter.contradiction() {
        return Err(invalid(format!("`since` ({since}) is not before `until` ({until}).")));
    }
    Ok(AuditRequest { filter, limit: limit.unwrap_or(LIMIT) })
}

fn is_fingerprint(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_limit(number: usize) -> bool {
    (1..=HIGHEST_LIMIT).contains(&number)
}

fn invalid(detail: String) -> Failure {
    Failure::InvalidRequest(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let all = query("", now).unwrap();
        assert_eq!((all.limit, all.filter.project), (100, None));
        let some = query(
            "project=team%2Fmy-app&registry=prod&subject=local:ci&event=issue&since=24h\
             &until=2026-11-21T09:00:00Z&limit=1000&minted_by=rise-01m7xynw8k6xbgt75wf4pvr3vr",
            now,
        );
        let some = some.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!((some.limit, some.filter.project.as_deref()), (1000, Some("team/my-app")));
        for (wrong, expected) in [
            ("project=A", "`project`"),
            ("project=a&project=a", "twice"),
            ("registry=", "`registry`"),
            ("subject=", "`subject`"),
            ("event=issue.x", "`event`: expected one of service.start"),
            ("request_id=x", "`request_id`"),
            ("minted_by=", "`minted_by`"),
            ("fingerprint=779B912606133F724FFDDEF8CFFB80E6", "`fingerprint`"),
            ("since=yesterday", "`since`: expected a time such as"),
            ("since=1h&until=2h", "is not before"),
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("limit=1e2", "from 1 to 1000"),
            ("format=csv", "unknown parameter `format`"),
        ] {
            match query(wrong, now) {
                Err(Failure::InvalidRequest(detail)) => {
                    assert!(detail.contains(expected), "{wrong}: {detail}");
                }
                Err(other) => panic!("{wrong}: {other:?}"),
                Ok(_) => panic!("{wrong} is accepted"),
            }
        }
    }
}
