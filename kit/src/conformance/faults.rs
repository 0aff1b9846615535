//! Checks faults: each call to a capability fails with each error, and each request to an upstream
//! hangs or gets an unexpected answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::doubles::{PATIENCE, Spoilt, Upstream};
use super::examples::Case;
use super::report::Report;
use crate::contract::types::{Error, Issued};
use crate::grant::grant;
use crate::probe::{Fault, Probe, Seen};
use rise_broker::capability::http::LARGEST_BODY;
use rise_broker::domain::Deadline;
use rise_broker::provider::{CallError, Finished, IssueCall};
use rise_broker::registries::Registry;
use rise_broker::rules::Grant;

const AREA: &str = "faults";
/// The longest text of an error, in bytes. An operator reads it in one line.
pub(super) const LONGEST_TEXT: usize = 4096;
/// The deadline of a call whose upstream hangs, and how much later the call may end.
pub(super) const HANGS: Duration = Duration::from_millis(300);
pub(super) const GRACE: Duration = Duration::from_secs(2);

pub(super) async fn check(case: &Case, report: &mut Report) {
    let grant = case.project().and_then(|project| grant(&case.registry, &project, None, None));
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => return report.fail(AREA, "can be called", error),
    };
    let (quiet, upstream_calls) = clean(case, &grant).await;
    if !quiet.asked.is_empty() {
        errors(case, &grant, &quiet, report).await;
    }
    if upstream_calls > 0 {
        hangs(case, &grant, upstream_calls, report).await;
    }
    nonsense(case, &grant, &quiet, report).await;
}

/// Makes a call without faults. Returns what it asked for, and the number of its upstream calls.
async fn clean(case: &Case, grant: &Arc<Grant>) -> (Seen, usize) {
    let upstream = Arc::new(case.upstream(grant));
    let (registry, probe) = case.behind_shared(Arc::clone(&upstream), Probe::default());
    let _ = issue(&registry, grant, PATIENCE).await;
    (probe.seen(), upstream.calls())
}

async fn issue(
    registry: &Registry,
    grant: &Arc<Grant>,
    time: Duration,
) -> Result<Finished<Result<Issued, Error>>, CallError> {
    let issue = IssueCall { settings: Arc::clone(&registry.settings), grant: Arc::clone(grant) };
    registry.provider.call_until(issue, &registry.capabilities, Deadline::after(time)).await
}

pub(super) fn variants() -> Vec<(&'static str, Error)> {
    let text = || "said by the conformance kit \u{1f4a5}".to_owned();
    vec![
        ("invalid-settings", Error::InvalidSettings(text())),
        ("refused", Error::Refused(text())),
        ("denied", Error::Denied(text())),
        ("not-found", Error::NotFound(text())),
        ("throttled", Error::Throttled(Some(7))),
        ("throttled", Error::Throttled(None)),
        ("unavailable", Error::Unavailable(String::new())),
        ("unsupported", Error::Unsupported(text())),
        ("failed", Error::Failed("x".repeat(4096))),
    ]
}

pub(super) fn kind(error: &Error) -> &'static str {
    match error {
        Error::InvalidSettings(_) => "invalid-settings",
        Error::Refused(_) => "refused",
        Error::Denied(_) => "denied",
        Error::NotFound(_) => "not-found",
        Error::Throttled(_) => "throttled",
        Error::Unavailable(_) => "unavailable",
        Error::Unsupported(_) => "unsupported",
        Error::Failed(_) => "failed",
    }
}

async fn errors(case: &Case, grant: &Arc<Grant>, quiet: &Seen, report: &mut Report) {
    let (mut wrong, mut changed) = (Vec::new(), Vec::new());
    for (at, asked) in quiet.asked.iter().enumerate() {
        for (name, error) in variants() {
            let probe = Probe::failing(Fault { at, with: error });
            let seen = outcome(case, grant, case.upstream(grant), probe).await;
            let import = asked.import;
            match seen {
                Err(seen) => wrong.push(format!("{import} returns {name}: {seen}")),
                Ok(answer) if answer != name => {
                    changed.push(format!("{import} returns {name} and issue {answer}"));
                }
                Ok(_) => {}
            }
        }
    }
    let imports = quiet.asked.len();
    let check = format!("an error of each of {imports} calls to imports is returned or handled");
    report.record(AREA, &check, wrong);
    if let Some(first) = changed.first() {
        let rest = changed.len().saturating_sub(1);
        let text = format!("{first} (and {rest} more): it tells callers whether to try again");
        report.hint(AREA, "errors are best returned as they are", text);
    }
}

/// The kind of answer of `issue`, or what it did wrong.
async fn outcome(
    case: &Case,
    grant: &Arc<Grant>,
    upstream: Upstream,
    probe: Probe,
) -> Result<&'static str, String> {
    let (registry, probe) = case.behind(upstream, probe);
    let issued = issue(&registry, grant, PATIENCE).await;
    let said = probe.seen();
    if case.logged_secret(&said) {
        return Err("wrote a secret to the log".to_owned());
    }
    match issued.map_err(|error| error.to_string())?.value {
        Ok(_) => Ok("a credential"),
        Err(error) if case.leaks(&format!("{error:?}")) => {
            Err("a secret is in the text of its error".to_owned())
        }
        Err(error) if format!("{error:?}").len() > LONGEST_TEXT * 2 => {
            Err(format!("the text of its error is longer than {LONGEST_TEXT} bytes"))
        }
        Err(error) => Ok(kind(&error)),
    }
}

async fn hangs(case: &Case, grant: &Arc<Grant>, calls: usize, report: &mut Report) {
    let mut wrong = Vec::new();
    for at in 0..calls {
        let mut upstream = case.upstream(grant);
        upstream.hangs_at = Some(at);
        let (registry, _) = case.behind(upstream, Probe::default());
        let started = Instant::now();
        let issued = issue(&registry, grant, HANGS).await;
        let took = started.elapsed();
        match issued {
            Err(CallError::UpstreamTimedOut) if took < HANGS + GRACE => {}
            Err(error) => wrong.push(format!("call {at}: {error} after {took:?}")),
            Ok(_) => wrong.push(format!("call {at}: it ended by itself")),
        }
    }
    let alive = case.engine.instances().0;
    if alive > 0 {
        wrong.push(format!("{alive} instances are still alive"));
    }
    let check = format!("a call ends at its deadline while each of {calls} upstream calls hangs");
    report.record(AREA, &check, wrong);
}

/// Answers that a provider's author did not expect.
pub(super) fn unexpected() -> impl Iterator<Item = Spoilt> {
    let statuses = [204, 301, 400, 401, 403, 404, 409, 422, 429, 500, 503].map(Spoilt::Status);
    let bodies = ["", "{", "null", "[]", "{}", "\"x\"", "{\"token\": 1}", "\u{1f4a5}", "<html>"];
    let huge = [Spoilt::Giant(LARGEST_BODY), Spoilt::Giant(LARGEST_BODY + 1)];
    statuses.into_iter().chain(bodies.map(Spoilt::Body)).chain(huge)
}

async fn nonsense(case: &Case, grant: &Arc<Grant>, quiet: &Seen, report: &mut Report) {
    let sends = quiet.asked.iter().filter(|asked| asked.import == "http.send").count();
    if sends == 0 {
        return;
    }
    let mut wrong = Vec::new();
    for spoilt in unexpected() {
        for at in 0..sends {
            let mut upstream = case.upstream(grant);
            upstream.spoilt = Some((at, spoilt));
            if let Err(seen) = outcome(case, grant, upstream, Probe::default()).await {
                wrong.push(format!("request {at} is answered {spoilt:?}: {seen}"));
            }
        }
    }
    report.record(AREA, "issue does not trap, whatever the registry answers", wrong);
}
