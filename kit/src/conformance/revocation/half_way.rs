//! Checks an `issue` that fails after the registry has made a credential: the broker calls `revoke`
//! with the note that it has, and nothing stays.

use std::sync::Arc;

use super::super::doubles::{PATIENCE, Spoilt, Upstream};
use super::super::examples::Case;
use super::super::report::Report;
use super::{AREA, ending};
use crate::contract::types::Error;
use crate::grant::grant;
use crate::probe::{Fault, Probe};
use rise_broker::domain::{Clock, Deadline};
use rise_broker::issue::{Leftover, mint};
use rise_broker::rules::Grant;

const CHECK: &str = "what an issue that failed half-way has made is ended";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let mut wrong = Vec::new();
    let (imports, sends) = match counts(case).await {
        Ok(counts) => counts,
        Err(error) => return report.fail(AREA, CHECK, error),
    };
    for at in 0..imports {
        let probe = Probe::failing(Fault { at, with: Error::Unavailable(String::new()) });
        let what = format!("call {at} of issue returns unavailable");
        wrong.extend(fails(case, probe, None, &what).await);
    }
    for at in 0..sends {
        let bodies = ["", "{", "{}", "null"].map(Spoilt::Body);
        let gateways = [500, 502, 503, 504].map(Spoilt::Gateway);
        for spoilt in bodies.into_iter().chain(gateways).chain([Spoilt::Lost]) {
            let what = format!("request {at} of issue is answered {spoilt:?}");
            wrong.extend(fails(case, Probe::default(), Some((at, spoilt)), &what).await);
        }
    }
    report.record(AREA, CHECK, wrong);
}

/// How many imports `issue` calls, and how many requests it sends.
async fn counts(case: &Case) -> Result<(usize, usize), String> {
    let grant = grant(&case.registry, &case.project()?, None, None)?;
    let (registry, probe) = case.behind(case.upstream(&grant), Probe::default());
    let deadline = Deadline::after(PATIENCE);
    drop(mint(&registry, &grant, deadline, &Clock::system()).await);
    let asked = probe.seen().asked;
    Ok((asked.len(), asked.iter().filter(|asked| asked.import == "http.send").count()))
}

async fn fails(
    case: &Case,
    probe: Probe,
    spoilt: Option<(usize, Spoilt)>,
    what: &str,
) -> Option<String> {
    let tried = case.project().and_then(|project| grant(&case.registry, &project, None, None));
    let grant = match tried {
        Ok(grant) => grant,
        Err(error) => return Some(error),
    };
    let mut upstream = case.upstream(&grant);
    upstream.spoilt = spoilt;
    let seen = left_behind(case, &grant, upstream, probe).await.err();
    seen.map(|seen| format!("{what}: {seen}"))
}

async fn left_behind(
    case: &Case,
    grant: &Arc<Grant>,
    upstream: Upstream,
    probe: Probe,
) -> Result<(), String> {
    let upstream = Arc::new(upstream);
    let (registry, _) = case.behind_shared(Arc::clone(&upstream), probe);
    let deadline = Deadline::after(PATIENCE);
    let minted = mint(&registry, grant, deadline, &Clock::system()).await;
    let Err(failed) = minted else { return Ok(()) };
    let object = upstream.object();
    if !object.exists() {
        return Ok(());
    }
    let note = match failed.leftover {
        Leftover::Noted(note) => Some(note),
        Leftover::Unknown => None,
        Leftover::Nothing => {
            return Err(format!(
                "it leads to \"{}\", and the broker calls no `revoke` then, although the registry \
                 has made the credential: return `failed` or `unavailable`, or remember it first",
                failed.error
            ));
        }
    };
    let upstream = case.upstream_with(grant, object);
    let called = (grant, note.as_deref());
    let ending = ending::end(case, called, upstream, Probe::default(), PATIENCE).await;
    match ending.returned {
        Err(seen) | Ok(Err((_, seen))) => Err(format!("revoke {seen}")),
        Ok(Ok(())) if ending.object.exists() => {
            Err("revoke returns success afterwards, and the credential is still there".to_owned())
        }
        Ok(Ok(())) => Ok(()),
    }
}
