//! Checks `revoke`: what `issue` made ends, with the note and without, and nothing else does.
//!
//! The double of the registry has one credential (`object.rs`), so a success that ended nothing is
//! found. The answers that make it, end it and depend on it are the author's.

mod ending;
mod half_way;

use ending::Ending;

use super::doubles::PATIENCE;
use super::examples::Case;
use super::object::RegistryObject;
use super::report::Report;
use crate::grant::grant;
use crate::probe::Probe;

pub(super) use ending::{Made, check_faults};

const AREA: &str = "revocation";
const ENDS: &str =
    "revoke ends what issue made, with its note and without, and may be called again";
const OTHERS: &str = "revoke ends nothing that another grant made";
/// Notes that `issue` never gave: those of another version of the provider.
const ODD_NOTES: [&str; 4] = ["0", "\u{1f4a5}", "../../x?y#z", "https://other.example.com/a/7"];

pub(super) async fn check(case: &Case, report: &mut Report) {
    if !case.registry.revokes() {
        return check_export(case, report).await;
    }
    if case.asks_over_http() && !case.says_what_makes() {
        let seen = "write `makes = true` into the [[answers]] with which the registry has made the \
                    credential, and add what it answers when that is looked for and deleted \
                    (docs/provider-author-guide.md, \"The conformance kit\")";
        return report.fail(AREA, "the examples say what makes a credential", seen.to_owned());
    }
    let made = match Made::issue(case).await {
        Ok(made) => made,
        Err(error) => return report.fail(AREA, "a credential can be made first", error),
    };
    if case.asks_over_http() && !made.object.exists() && made.note.is_none() {
        // Another way to issue, which these settings choose: it makes nothing that would stay.
        return;
    }
    if case.asks_over_http() && !made.object.exists() {
        let seen = "none of the requests of `issue` got an answer with `makes = true`";
        return report.fail(AREA, "the examples say what makes a credential", seen.to_owned());
    }
    if made.object.exists() && made.note.is_none() {
        let seen = "it calls no `grant.remember`, so the broker would never call `revoke` for it";
        report.fail(AREA, "issue remembers what it made", seen.to_owned());
    }
    report.record(AREA, ENDS, ends(case, &made).await);
    report.record(AREA, OTHERS, others(case, &made).await);
    half_way::check(case, report).await;
}

/// A note is for `revoke`. Who forgets the export has credentials that nobody ends.
async fn check_export(case: &Case, report: &mut Report) {
    if let Ok(Made { note: Some(note), .. }) = Made::issue(case).await {
        let seen = format!(
            "`issue` remembers `{note}`, and the component exports no `revocation`, so the broker \
             ends nothing: in Rust write `export_provider!(Example, revocation)`"
        );
        report.fail(AREA, "what issue remembers is for revoke", seen);
    }
}

async fn ends(case: &Case, made: &Made) -> Vec<String> {
    let mut wrong = Vec::new();
    for note in made.notes() {
        let mut object = made.object.clone();
        for what in ["", ", a second time"] {
            let what = format!("{}{what}", called(note));
            let ending = call(case, made, note, object).await;
            object = ending.object.clone();
            wrong.extend(ending.problems(case).into_iter().map(|seen| format!("{what}: {seen}")));
            match ending.returned {
                Err(seen) | Ok(Err((_, seen))) => wrong.push(format!("{what}: {seen}")),
                Ok(Ok(())) if object.exists() => wrong.push(format!(
                    "{what}: it returns success, and no request ended the credential"
                )),
                Ok(Ok(())) => {}
            }
        }
    }
    let ending = call(case, made, None, RegistryObject::default()).await;
    let what = "of a grant for which nothing was made";
    match &ending.returned {
        Err(seen) | Ok(Err((_, seen))) => wrong.push(format!("{what}: {seen}")),
        Ok(Ok(())) => {}
    }
    wrong.extend(ending.problems(case).into_iter().map(|seen| format!("{what}: {seen}")));
    wrong
}

/// The credential is that of another grant, as if the registry had given away its id again.
async fn others(case: &Case, made: &Made) -> Vec<String> {
    let mut wrong = Vec::new();
    let other = match case.project().and_then(|project| grant(&case.registry, &project, None, None))
    {
        Ok(other) => other,
        Err(error) => return vec![error],
    };
    for note in made.notes().into_iter().chain(ODD_NOTES.map(Some)) {
        let upstream = case.upstream_with(&other, made.object.clone());
        let ending = ending::end(case, (&other, note), upstream, Probe::default(), PATIENCE).await;
        let what = called(note);
        if let Some(request) = &ending.object.ended_for_other {
            let seen = "ends a credential whose name is that of another grant";
            wrong.push(format!("{what}: `{request}` {seen}"));
        }
        if let Err(seen) = &ending.returned {
            wrong.push(format!("{what}: {seen}"));
        }
        // A request beyond the ceiling is fine for a note of somewhere else: the host refuses it.
        if case.logged_secret(&ending.seen) {
            wrong.push(format!("{what}: wrote a secret to the log"));
        }
    }
    wrong
}

async fn call(case: &Case, made: &Made, note: Option<&str>, object: RegistryObject) -> Ending {
    let upstream = case.upstream_with(&made.grant, object);
    ending::end(case, (&made.grant, note), upstream, Probe::default(), PATIENCE).await
}

fn called(note: Option<&str>) -> String {
    note.map_or_else(|| "without a note".to_owned(), |note| format!("with the note `{note}`"))
}
