//! What the rules allow a caller whose request was denied, so that a misspelt project or registry
//! shows at once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::app::App;
use crate::broker::{Explained, Wanted};
use crate::credentials::{self, Obtained};
use crate::failure::{Failure, shown};
use crate::token::TokenSource;

/// The longest delay of a failure.
const LOOK_UP: Duration = Duration::from_secs(3);
/// The most grants that a line names.
const GRANTS: usize = 8;

/// Obtains a credential. A denial names what the rules allow.
pub(crate) fn obtain(app: &App, wanted: &Wanted) -> Result<Obtained, Failure> {
    credentials::obtain(app, wanted).map_err(|failure| explained(app, wanted, failure))
}

/// Asks the broker once, and only with a token that is at hand: another one may take long.
pub(crate) fn explained(app: &App, wanted: &Wanted, failure: Failure) -> Failure {
    let is_about_names = match &failure {
        Failure::Denied(_) | Failure::Settings(_) => true,
        Failure::Other(_)
        | Failure::Token(_)
        | Failure::Unavailable(_)
        | Failure::Untrusted(_)
        | Failure::Files(_) => false,
    };
    let source = app.source().ok().filter(|source| match source {
        TokenSource::File { .. }
        | TokenSource::Variable { .. }
        | TokenSource::Kubernetes { .. }
        | TokenSource::ServiceAccount { .. } => true,
        TokenSource::Command(_)
        | TokenSource::GitHub(_)
        | TokenSource::Buildkite(_)
        | TokenSource::Login(_) => false,
    });
    let Some(source) = source.filter(|_| is_about_names) else { return failure };
    let patience = app.patience.once_within(LOOK_UP).quiet();
    let who = app
        .ask_as(source, patience, |broker, token, deadline| broker.explain(token, None, deadline));
    match who {
        Ok(who) => with_grants(wanted, failure, &who),
        Err(_) => failure,
    }
}

/// Adds the projects and registries that the rules allow.
pub(crate) fn with_grants(wanted: &Wanted, failure: Failure, who: &Explained) -> Failure {
    let project = wanted.project.as_deref().unwrap_or_default();
    let last = project.rsplit_once('/').map(|(_, last)| last);
    let is_meant = |last: &&str| who.grants.iter().any(|grant| grant.projects == *last);
    let failure = match last.filter(is_meant) {
        Some(last) => failure.with(&format!("; perhaps the project {last} is meant")),
        None => failure,
    };
    match &failure {
        Failure::Denied(_) if who.grants.is_empty() => {
            failure.with("; no rule allows you anything at this broker")
        }
        Failure::Denied(_) => failure.with(&format!("; the rules allow you to {}", grants(who))),
        // The only rejection that a list of names resolves.
        Failure::Settings(text) if text.contains("name one as `registry`") => {
            let names: BTreeSet<_> =
                who.grants.iter().map(|grant| shown(&grant.registry)).collect();
            let names: Vec<_> = names.into_iter().collect();
            failure.with(&format!("; use --registry with one of {}", names.join(", ")))
        }
        Failure::Settings(_)
        | Failure::Other(_)
        | Failure::Token(_)
        | Failure::Unavailable(_)
        | Failure::Untrusted(_)
        | Failure::Files(_) => failure,
    }
}

/// `pull, push and create`.
fn listed(actions: &[String]) -> String {
    match actions {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => actions.concat(),
    }
}

fn grants(who: &Explained) -> String {
    let named = who.grants.iter().take(GRANTS).map(|grant| {
        let actions = shown(&listed(&grant.actions));
        format!("{actions} {} in {}", shown(&grant.projects), shown(&grant.registry))
    });
    let named: Vec<_> = named.collect();
    let more = match who.grants.len().saturating_sub(GRANTS) {
        0 => String::new(),
        more => format!(", and {more} more, which `rise-registry explain` shows"),
    };
    named.join(", ") + &more
}
