//! One call of `revoke`, and its calls while capabilities and the registry fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::doubles::{PATIENCE, Spoilt, Upstream};
use super::super::examples::Case;
use super::super::faults::{GRACE, HANGS, LONGEST_TEXT, kind, unexpected, variants};
use super::super::object::RegistryObject;
use super::super::report::Report;
use super::{AREA, called};
use crate::contract::types::Error;
use crate::grant::grant;
use crate::probe::{Fault, Probe, Seen};
use rise_broker::domain::{Clock, Deadline};
use rise_broker::issue::mint;
use rise_broker::provider::{CallError, RevokeCall};
use rise_broker::rules::Grant;

const FAULTS: &str = "revoke returns no success while the credential may still be there";
const HANGING: &str = "revoke ends at its deadline while an upstream call hangs";

/// A credential that `issue` made.
pub(in super::super) struct Made {
    pub grant: Arc<Grant>,
    pub note: Option<String>,
    pub object: RegistryObject,
}

impl Made {
    pub(in super::super) async fn issue(case: &Case) -> Result<Self, String> {
        let grant = grant(&case.registry, &case.project()?, None, None)?;
        let upstream = Arc::new(case.upstream(&grant));
        let (registry, _) = case.behind_shared(Arc::clone(&upstream), Probe::default());
        let deadline = Deadline::after(PATIENCE);
        let minted = mint(&registry, &grant, deadline, &Clock::system()).await;
        let note = minted.map_err(|error| error.to_string())?.note;
        Ok(Self { grant, note, object: upstream.object() })
    }

    /// The note, and none.
    pub(super) fn notes(&self) -> Vec<Option<&str>> {
        let note = self.note.as_deref().map(Some);
        note.into_iter().chain([None]).collect()
    }
}

/// The effects of a call of `revoke`.
pub(super) struct Ending {
    /// The error of the provider with its text for a report, or the end of a call without one.
    pub returned: Result<Result<(), (Error, String)>, String>,
    pub object: RegistryObject,
    pub seen: Seen,
    upstream_calls: usize,
    timed_out: bool,
}

impl Ending {
    /// The mistakes of the call, whatever it returned.
    pub(super) fn problems(&self, case: &Case) -> Vec<String> {
        let mut wrong = case.violations(&self.seen);
        if let Ok(Err((error, _))) = &self.returned {
            let text = format!("{error:?}");
            if case.leaks(&text) {
                wrong.push("a secret is in the text of its error".to_owned());
            }
            if text.len() > LONGEST_TEXT * 2 {
                wrong.push(format!("the text of its error is longer than {LONGEST_TEXT} bytes"));
            }
        }
        wrong
    }
}

pub(super) async fn end(
    case: &Case,
    (grant, note): (&Arc<Grant>, Option<&str>),
    upstream: Upstream,
    probe: Probe,
    time: Duration,
) -> Ending {
    let upstream = Arc::new(upstream);
    let (registry, probe) = case.behind_shared(Arc::clone(&upstream), probe);
    let call = RevokeCall {
        settings: Arc::clone(&registry.settings),
        grant: Arc::clone(grant).into(),
        note: note.map(str::to_owned),
    };
    let deadline = Deadline::after(time);
    let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
    let timed_out = matches!(called, Err(CallError::UpstreamTimedOut));
    let returned = called.map_err(|error| error.to_string());
    let returned = returned.map(|finished| {
        finished.value.map_err(|error| {
            let text = format!("returns {error:?}");
            (error, text)
        })
    });
    let (object, upstream_calls) = (upstream.object(), upstream.calls());
    Ending { returned, object, seen: probe.seen(), upstream_calls, timed_out }
}

/// Checks the calls while something fails. The provider has passed everything else.
pub(in super::super) async fn check_faults(case: &Case, report: &mut Report) {
    if !case.registry.revokes() {
        return;
    }
    let made = match Made::issue(case).await {
        Ok(made) => made,
        Err(error) => return report.fail(AREA, "a credential can be made first", error),
    };
    if made.note.is_none() && !made.object.exists() {
        return;
    }
    let (mut wrong, mut slow, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for note in made.notes() {
        let quiet = end(case, (&made.grant, note), made.upstream(case), Probe::default(), PATIENCE);
        let quiet = quiet.await;
        made.errors(case, note, &quiet, (&mut wrong, &mut changed)).await;
        made.nonsense(case, note, &quiet, (&mut wrong, &mut changed)).await;
        slow.extend(made.hangs(case, note, &quiet).await);
    }
    report.record(AREA, FAULTS, wrong);
    report.record(AREA, HANGING, slow);
    if let Some(first) = changed.first() {
        let rest = changed.len().saturating_sub(1);
        let text = format!("{first} (and {rest} more): it tells the broker when to try again");
        report.hint(AREA, "errors are best returned as they are", text);
    }
}

type Found<'a> = (&'a mut Vec<String>, &'a mut Vec<String>);

impl Made {
    fn upstream(&self, case: &Case) -> Upstream {
        case.upstream_with(&self.grant, self.object.clone())
    }

    async fn errors(
        &self,
        case: &Case,
        note: Option<&str>,
        quiet: &Ending,
        (wrong, changed): Found<'_>,
    ) {
        for (at, asked) in quiet.seen.asked.iter().enumerate() {
            for (name, error) in variants() {
                // "Not found" is how a registry says that the credential is gone.
                let is_strict = !matches!(error, Error::NotFound(_));
                let probe = Probe::failing(Fault { at, with: error });
                let upstream = self.upstream(case);
                let ending = end(case, (&self.grant, note), upstream, probe, PATIENCE).await;
                let what = format!("{}: {} returns {name}", called(note), asked.import);
                wrong.extend(ending.after_fault(case, is_strict, &what));
                if let Ok(Err((error, _))) = &ending.returned
                    && kind(error) != name
                {
                    changed.push(format!("{what} and revoke {}", kind(error)));
                }
            }
        }
    }

    async fn nonsense(
        &self,
        case: &Case,
        note: Option<&str>,
        quiet: &Ending,
        (wrong, changed): Found<'_>,
    ) {
        let sends = quiet.seen.asked.iter().filter(|asked| asked.import == "http.send").count();
        for spoilt in unexpected() {
            for at in 0..sends {
                let mut upstream = self.upstream(case);
                upstream.spoilt = Some((at, spoilt));
                let ending =
                    end(case, (&self.grant, note), upstream, Probe::default(), PATIENCE).await;
                let what = format!("{}: request {at} is answered {spoilt:?}", called(note));
                wrong.extend(ending.after_fault(case, says_nothing(spoilt), &what));
                let is_pause = matches!(spoilt, Spoilt::Status(429));
                if let Ok(Err((error, _))) = &ending.returned
                    && is_pause
                    && !matches!(error, Error::Throttled(_))
                {
                    changed.push(format!("{what} and revoke returns {}", kind(error)));
                }
            }
        }
    }

    async fn hangs(&self, case: &Case, note: Option<&str>, quiet: &Ending) -> Vec<String> {
        let mut wrong = Vec::new();
        for at in 0..quiet.upstream_calls {
            let mut upstream = self.upstream(case);
            upstream.hangs_at = Some(at);
            let started = Instant::now();
            let ending = end(case, (&self.grant, note), upstream, Probe::default(), HANGS).await;
            let took = started.elapsed();
            if !ending.timed_out || took >= HANGS + GRACE {
                wrong.push(format!("{}: call {at} ended after {took:?}", called(note)));
            }
        }
        wrong
    }
}

impl Ending {
    /// The mistakes while something failed. `is_strict`: the credential is there, and nothing said
    /// that it is gone.
    fn after_fault(&self, case: &Case, is_strict: bool, what: &str) -> Vec<String> {
        let mut wrong = self.problems(case);
        match &self.returned {
            Err(seen) => wrong.push(seen.clone()),
            Ok(Ok(())) if is_strict && self.object.exists() => {
                wrong.push("it returns success, and the credential is still there".to_owned());
            }
            Ok(Ok(()) | Err(_)) => {}
        }
        wrong.into_iter().map(|seen| format!("{what}: {seen}")).collect()
    }
}

/// Whether an answer says nothing about a credential that is there. The others may mean that it is
/// gone.
fn says_nothing(spoilt: Spoilt) -> bool {
    match spoilt {
        Spoilt::Status(status) => matches!(status, 301 | 401 | 403 | 429 | 500 | 503),
        Spoilt::Body(body) => !matches!(body, "null" | "[]" | "{}"),
        Spoilt::Giant(_) | Spoilt::Lost | Spoilt::Gateway(_) => true,
    }
}
