//! Checks `leftovers`: what `issue` made is found by its name and ended, and nothing else is.

mod calls;

use calls::{Found, Surroundings};

use super::doubles::Spoilt;
use super::examples::Case;
use super::faults::{unexpected, variants};
use super::object::RegistryObject;
use super::report::Report;
use super::revocation::Made;
use crate::contract::types::Error;
use crate::grant::grant;
use crate::probe::Fault;

const AREA: &str = "leftovers";
const FINDS: &str = "find lists what issue made, and may be called again";
const OTHERS: &str = "find lists nothing that has another name";
const ENDS: &str = "end ends what find listed, and nothing that another grant made";
const FAULTS: &str = "find and end return no success while the registry does not answer";

pub(super) async fn check(case: &Case, report: &mut Report) {
    let Some(made) = made(case, report).await else { return };
    let here = Surroundings::with(&made);
    let found = calls::find(case, &here).await;
    if let Ok(Err(Error::Unsupported(text))) = &found.returned {
        let seen = format!("these settings do not let it: {text}");
        return report.hint(AREA, "the registry can list credentials", seen);
    }
    let mut wrong = found.problems(case);
    wrong.extend(lists(&found, &made.grant.id().to_string()));
    let again = calls::find(case, &here).await;
    wrong.extend(lists(&again, &made.grant.id().to_string()));
    let nothing = Surroundings { object: RegistryObject::default(), ..Surroundings::with(&made) };
    wrong.extend(is_empty(&calls::find(case, &nothing).await, "nothing was made"));
    let is_found = wrong.is_empty();
    report.record(AREA, FINDS, wrong);
    let renamed = Surroundings { renamed: Some("nightly"), ..Surroundings::with(&made) };
    let seen = is_empty(&calls::find(case, &renamed).await, "it is named `…nightly`");
    report.record(AREA, OTHERS, seen.into_iter().collect());
    if is_found {
        report.record(AREA, ENDS, ends(case, &made, &found).await);
    }
}

/// A credential that `issue` made. `None`: there is nothing to find.
async fn made(case: &Case, report: &mut Report) -> Option<Made> {
    if !case.registry.finds_leftovers() {
        return None;
    }
    match Made::issue(case).await {
        Ok(made) => Some(made).filter(|made| made.object.exists()),
        Err(error) => {
            report.fail(AREA, "a credential can be made first", error);
            None
        }
    }
}

fn lists(found: &Found, id: &str) -> Option<String> {
    match &found.returned {
        Err(seen) => Some(seen.clone()),
        Ok(Err(error)) => Some(format!("returns {error:?}")),
        Ok(Ok(listed)) => {
            let is_there = listed.iter().any(|leftover| leftover.id.eq_ignore_ascii_case(id));
            (!is_there).then(|| format!("the credential of the grant {id} is not in its list"))
        }
    }
}

fn is_empty(found: &Found, why: &str) -> Option<String> {
    match &found.returned {
        Ok(Ok(listed)) => {
            let first = listed.first()?;
            Some(format!("{why}, and it lists `{}` (`{}`)", first.id, first.note))
        }
        // The answers of the examples may make no sense with another name.
        Ok(Err(_)) => None,
        Err(seen) => Some(format!("{why}: {seen}")),
    }
}

async fn ends(case: &Case, made: &Made, found: &Found) -> Vec<String> {
    let mut wrong = Vec::new();
    let id = made.grant.id().to_string();
    let Some(note) = found.note_of(&id) else { return wrong };
    let mut here = Surroundings::with(made);
    for what in ["", "a second time: "] {
        let ended = calls::end(case, (&id, &note), &here).await;
        wrong.extend(ended.problems(case).into_iter().map(|seen| format!("{what}{seen}")));
        here.object = ended.object.clone();
        match ended.returned {
            Err(seen) => wrong.push(format!("{what}{seen}")),
            Ok(Err(error)) => wrong.push(format!("{what}returns {error:?}")),
            Ok(Ok(())) if ended.object.exists() => {
                wrong.push(format!("{what}it returns success, and no request ended it"));
            }
            Ok(Ok(())) => {}
        }
    }
    // The registry has given what the note names to another grant.
    let other = case.project().and_then(|project| grant(&case.registry, &project, None, None));
    let other = match other {
        Ok(other) => other,
        Err(error) => return vec![error],
    };
    let here = Surroundings { grant: other.id().to_string(), ..Surroundings::with(made) };
    let ended = calls::end(case, (&here.grant, &note), &here).await;
    if let Some(request) = &ended.object.ended_for_other {
        wrong.push(format!("`{request}` ends a credential whose name is that of another grant"));
    }
    wrong
}

/// Checks the calls while something fails. The provider has passed everything else.
pub(super) async fn check_faults(case: &Case, report: &mut Report) {
    let Some(made) = made(case, report).await else { return };
    let id = made.grant.id().to_string();
    let quiet = calls::find(case, &Surroundings::with(&made)).await;
    let Some(note) = quiet.note_of(&id) else { return };
    let ended = calls::end(case, (&id, &note), &Surroundings::with(&made)).await;
    let mut wrong = Vec::new();
    for (name, error) in variants() {
        // "Not found" is how a registry says that a credential is gone.
        let is_strict = !matches!(error, Error::NotFound(_));
        for at in 0..quiet.seen.asked.len() {
            let fault = Some(Fault { at, with: error.clone() });
            let here = Surroundings { fault, ..Surroundings::with(&made) };
            let found = calls::find(case, &here).await;
            let what = format!("call {at} of find returns {name}");
            wrong.extend(found.after_fault(case, &id, &what));
        }
        for at in 0..ended.seen.asked.len() {
            let fault = Some(Fault { at, with: error.clone() });
            let here = Surroundings { fault, ..Surroundings::with(&made) };
            let ended = calls::end(case, (&id, &note), &here).await;
            let what = format!("call {at} of end returns {name}");
            wrong.extend(ended.after_fault(case, is_strict, &what));
        }
    }
    for spoilt in unexpected().filter(|spoilt| is_failure(*spoilt)) {
        for at in 0..quiet.sends() {
            let spoilt = Some((at, spoilt));
            let here = Surroundings { spoilt, ..Surroundings::with(&made) };
            let found = calls::find(case, &here).await;
            let what = format!("request {at} of find is answered {spoilt:?}");
            wrong.extend(found.after_fault(case, &id, &what));
        }
    }
    report.record(AREA, FAULTS, wrong);
}

/// Whether an answer says nothing about what there is.
fn is_failure(spoilt: Spoilt) -> bool {
    match spoilt {
        Spoilt::Status(status) => matches!(status, 301 | 401 | 403 | 429 | 500 | 503),
        Spoilt::Body(body) => !matches!(body, "null" | "[]" | "{}"),
        Spoilt::Giant(_) | Spoilt::Lost | Spoilt::Gateway(_) => true,
    }
}
