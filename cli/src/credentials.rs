//! A credential for what is wanted: from the cache while it is in its first half, else from the broker, and by one process at a
//! time for each.

use std::thread;
use std::time::Duration;

use crate::app::App;
use crate::broker::Wanted;
use crate::cache::{Cache, CacheKey, Complaint, Kept};
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::token::TokenSource;

/// Between two looks at whether another process has brought what we wait for.
const POLL: Duration = Duration::from_millis(5);
/// What is still good is not worth waiting longer for.
const RENEWAL: Duration = Duration::from_secs(3);

/// A credential, and what went wrong on the way to it without being in the way.
pub(crate) struct Obtained {
    pub(crate) kept: Kept,
    /// For stderr, one line each.
    pub(crate) complaints: Vec<Complaint>,
}

/// With the token of `app.source()`, by `app.deadline`.
pub(crate) fn obtain(app: &App, wanted: &Wanted) -> Result<Obtained, Failure> {
    obtain_as(app, app.source()?, wanted, app.deadline)
}

pub(crate) fn obtain_as(
    app: &App,
    source: TokenSource,
    wanted: &Wanted,
    deadline: Deadline,
) -> Result<Obtained, Failure> {
    let cache = app.cache();
    let key = key(app, &source, wanted)?;
    let mut complaints = Vec::new();
    let (lock, kept) = loop {
        let kept = load(app, &cache, &key, &mut complaints);
        match kept {
            Some(kept) if kept.is_fresh((app.now)()) => return Ok(Obtained { kept, complaints }),
            kept => match cache.lock(&key) {
                // Between our look and our lock, another process may have brought it.
                Ok(Some(lock)) => break (Some(lock), load(app, &cache, &key, &mut complaints)),
                Err(complaint) => {
                    complain(&mut complaints, complaint);
                    break (None, kept);
                }
                Ok(None) => {
                    // Whoever holds it is renewing what is still good.
                    if let Some(kept) = kept {
                        return Ok(Obtained { kept, complaints });
                    }
                    if deadline.is_over() {
                        return Err(waited_in_vain());
                    }
                    thread::sleep(POLL.min(deadline.remaining()));
                }
            },
        }
    };
    let patience = if kept.is_some() { deadline.at_most(RENEWAL) } else { deadline };
    let kept = match kept {
        Some(kept) if kept.is_fresh((app.now)()) => kept,
        kept => match (ask(app, source, wanted, patience), kept) {
            (Ok(asked), _) => {
                if let Some(lock) = lock
                    && let Err(complaint) = cache.store(&key, &asked, &lock)
                {
                    complain(&mut complaints, complaint);
                }
                asked
            }
            (Err(failure @ (Failure::Token(_) | Failure::Denied(_))), _) => {
                // What one may not have any more is not handed out from memory either.
                cache.remove(&key);
                return Err(failure);
            }
            (Err(failure), Some(kept)) => {
                complain(&mut complaints, format!("{failure}; what is handed out is still good"));
                kept
            }
            (Err(failure), None) => return Err(failure),
        },
    };
    Ok(Obtained { kept, complaints })
}

/// Of the broker, whatever is kept.
pub(crate) fn ask(
    app: &App,
    source: TokenSource,
    wanted: &Wanted,
    deadline: Deadline,
) -> Result<Kept, Failure> {
    let broker = app.broker()?;
    let token = source.token(&app.settings, &app.environment, deadline)?;
    // Before the question: what is counted from the answer would be served too long.
    let now = (app.now)();
    broker.credentials(&token, wanted, deadline).map(|it| Kept::new(it, now))
}

/// What can be handed out at all.
fn load(app: &App, cache: &Cache, key: &CacheKey, complaints: &mut Vec<Complaint>) -> Option<Kept> {
    let loaded = cache.load(key).unwrap_or_else(|complaint| {
        complain(complaints, complaint);
        None
    });
    loaded.filter(|it| it.is_usable((app.now)()))
}

/// While waiting, the same thing goes wrong many times.
fn complain(complaints: &mut Vec<Complaint>, complaint: Complaint) {
    if !complaints.contains(&complaint) {
        complaints.push(complaint);
    }
}

fn waited_in_vain() -> Failure {
    Failure::Unavailable(
        "another process asks the broker for the same credentials and has no answer yet: try again"
            .to_owned(),
    )
}

fn key(app: &App, source: &TokenSource, wanted: &Wanted) -> Result<CacheKey, Failure> {
    key_of(app, &source.identity(&app.settings), wanted)
}

/// `identity` is that of a [`TokenSource`].
pub(crate) fn key_of(app: &App, identity: &str, wanted: &Wanted) -> Result<CacheKey, Failure> {
    let mut actions = wanted.actions.clone();
    actions.sort();
    actions.dedup();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Ok(CacheKey::new(&[
        app.settings.url()?.as_str(),
        identity,
        &text(&wanted.project),
        &text(&wanted.image),
        &text(&wanted.registry),
        &actions.join(","),
        &wanted.lifetime.map_or_else(String::new, |it| it.to_string()),
    ]))
}

#[cfg(test)]
mod tests;
