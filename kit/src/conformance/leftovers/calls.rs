//! One call of `find` or of `end`, and what it did.

use std::sync::Arc;

use super::super::doubles::{PATIENCE, Spoilt, Upstream};
use super::super::examples::Case;
use super::super::faults::LONGEST_TEXT;
use super::super::object::RegistryObject;
use super::super::revocation::Made;
use crate::contract::types::Error;
use crate::probe::{Fault, Probe, Seen};
use rise_broker::capability::wit::leftovers::exports::rise::registry::leftovers::Leftover;
use rise_broker::domain::Deadline;
use rise_broker::provider::{EndLeftoverCall, FindLeftoversCall};

/// What the registry has, and what fails.
pub(super) struct Surroundings {
    /// The id with which the answers are filled in.
    pub grant: String,
    pub object: RegistryObject,
    /// What stands in the answers in place of the id.
    pub renamed: Option<&'static str>,
    pub fault: Option<Fault>,
    pub spoilt: Option<(usize, Spoilt)>,
}

/// The effects of a call of `find`.
pub(super) type Found = Called<Vec<Leftover>>;

pub(super) struct Called<T> {
    /// Outside: the end of a call that returned nothing.
    pub returned: Result<Result<T, Error>, String>,
    pub object: RegistryObject,
    pub seen: Seen,
}

impl Surroundings {
    pub(super) fn with(made: &Made) -> Self {
        Self {
            grant: made.grant.id().to_string(),
            object: made.object.clone(),
            renamed: None,
            fault: None,
            spoilt: None,
        }
    }

    fn upstream(&self, case: &Case) -> Arc<Upstream> {
        let mut upstream = case.upstream_of(self.grant.clone(), self.object.clone());
        (upstream.renamed, upstream.spoilt) = (self.renamed, self.spoilt);
        Arc::new(upstream)
    }

    fn probe(&self) -> Probe {
        let fault = self.fault.as_ref();
        fault.map_or_else(Probe::default, |Fault { at, with }| {
            Probe::failing(Fault { at: *at, with: with.clone() })
        })
    }
}

pub(super) async fn find(case: &Case, here: &Surroundings) -> Found {
    let upstream = here.upstream(case);
    let (registry, probe) = case.behind_shared(Arc::clone(&upstream), here.probe());
    let call = FindLeftoversCall { settings: Arc::clone(&registry.settings) };
    let deadline = Deadline::after(PATIENCE);
    let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
    let returned = called.map(|finished| finished.value).map_err(|error| error.to_string());
    Called { returned, object: upstream.object(), seen: probe.seen() }
}

pub(super) async fn end(case: &Case, (id, note): (&str, &str), here: &Surroundings) -> Called<()> {
    let upstream = here.upstream(case);
    let (registry, probe) = case.behind_shared(Arc::clone(&upstream), here.probe());
    let leftover = Leftover { id: id.to_owned(), note: note.to_owned() };
    let call = EndLeftoverCall { settings: Arc::clone(&registry.settings), leftover };
    let deadline = Deadline::after(PATIENCE);
    let called = registry.provider.call_until(call, &registry.capabilities, deadline).await;
    let returned = called.map(|finished| finished.value).map_err(|error| error.to_string());
    Called { returned, object: upstream.object(), seen: probe.seen() }
}

impl<T> Called<T> {
    /// The mistakes of the call, whatever it returned.
    pub(super) fn problems(&self, case: &Case) -> Vec<String> {
        let mut wrong = case.violations(&self.seen);
        if let Ok(Err(error)) = &self.returned {
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

    pub(super) fn sends(&self) -> usize {
        self.seen.asked.iter().filter(|asked| asked.import == "http.send").count()
    }
}

impl Found {
    /// The note of the credential of this grant.
    pub(super) fn note_of(&self, id: &str) -> Option<String> {
        let listed = self.returned.as_ref().ok()?.as_ref().ok()?;
        let of = listed.iter().find(|leftover| leftover.id.eq_ignore_ascii_case(id));
        of.map(|leftover| leftover.note.clone())
    }

    /// The mistakes while something failed: a list without a credential that is there.
    pub(super) fn after_fault(&self, case: &Case, id: &str, what: &str) -> Vec<String> {
        let mut wrong = self.problems(case);
        match &self.returned {
            Err(seen) => wrong.push(seen.clone()),
            Ok(Ok(_)) if self.note_of(id).is_none() => {
                wrong.push("it returns a list without the credential that is there".to_owned());
            }
            Ok(Ok(_) | Err(_)) => {}
        }
        wrong.into_iter().map(|seen| format!("{what}: {seen}")).collect()
    }
}

impl Called<()> {
    /// The mistakes while something failed. `is_strict`: nothing said that the credential is gone.
    pub(super) fn after_fault(&self, case: &Case, is_strict: bool, what: &str) -> Vec<String> {
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
