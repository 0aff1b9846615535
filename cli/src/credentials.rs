//! Obtains a credential: from the cache in the first half of its lifetime, else from the broker.
//! One process at a time asks the broker for the same credential.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use crate::app::App;
use crate::broker::Wanted;
use crate::cache::{Cache, CacheKey, Complaint, Kept};
use crate::failure::Failure;
use crate::patience::{Patience, Repeat};
use crate::token::TokenSource;

/// Interval at which the cache is read while another process asks the broker.
const POLL: Duration = Duration::from_millis(5);
/// The longest wait for a renewal while the cached credential is still usable.
const RENEWAL: Duration = Duration::from_secs(3);

/// A credential, and problems that did not prevent it.
pub(crate) struct Obtained {
    pub(crate) kept: Kept,
    /// Lines for stderr.
    pub(crate) complaints: Vec<Complaint>,
}

/// Why the broker gave no new credential.
enum RequestError {
    /// It rejected the token or denied the request.
    Refused(Failure),
    /// There is no token, or the broker cannot answer.
    Failed(Failure),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(failure) | RequestError::Failed(failure) => failure,
        }
    }
}

/// Uses the token of `app.source()` and the wait of this run.
pub(crate) fn obtain(app: &App, wanted: &Wanted) -> Result<Obtained, Failure> {
    obtain_as(app, app.source()?, wanted, app.patience)
}

pub(crate) fn obtain_as(
    app: &App,
    source: TokenSource,
    wanted: &Wanted,
    patience: Patience,
) -> Result<Obtained, Failure> {
    let cache = app.cache();
    let key = key(app, &source, wanted)?;
    let mut complaints = Vec::new();
    let (lock, kept) = loop {
        let kept = load(app, &cache, &key, &mut complaints);
        match kept {
            Some(kept) if kept.is_fresh((app.now)()) => return Ok(Obtained { kept, complaints }),
            kept => match cache.lock(&key) {
                // Another process may have stored it before this one got the lock.
                Ok(Some(lock)) => break (Some(lock), load(app, &cache, &key, &mut complaints)),
                Err(complaint) => {
                    complain(&mut complaints, complaint);
                    break (None, kept);
                }
                Ok(None) => {
                    // The process with the lock is renewing a credential that is still usable.
                    if let Some(kept) = kept {
                        return Ok(Obtained { kept, complaints });
                    }
                    if patience.deadline().is_over() {
                        return Err(another_process_is_too_slow());
                    }
                    thread::sleep(POLL.min(patience.deadline().remaining()));
                }
            },
        }
    };
    let patience = if kept.is_some() { patience.once_within(RENEWAL) } else { patience };
    let kept = match kept {
        Some(kept) if kept.is_fresh((app.now)()) => kept,
        kept => match (request(app, source, wanted, patience), kept) {
            (Ok(asked), _) => {
                if let Some(lock) = lock
                    && let Err(complaint) = cache.store(&key, &asked, &lock)
                {
                    complain(&mut complaints, complaint);
                }
                asked
            }
            (Err(RequestError::Refused(failure)), _) => {
                // A caller who is no longer allowed must not get the cached credential either.
                cache.remove(&key);
                return Err(failure);
            }
            (Err(RequestError::Failed(failure)), Some(kept)) => {
                complain(
                    &mut complaints,
                    format!("{failure}; the cached credential is still valid and is used"),
                );
                kept
            }
            (Err(RequestError::Failed(failure)), None) => return Err(failure),
        },
    };
    Ok(Obtained { kept, complaints })
}

/// Looks up a credential for the project that is still usable, whatever it allows.
pub(crate) fn cached(app: &App, wanted: &Wanted) -> Option<Kept> {
    let (source, cache) = (app.source().ok()?, app.cache());
    let all: [&[&str]; 4] = [&[], &["pull"], &["push"], &["pull", "push"]];
    all.into_iter().find_map(|actions| {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        let wanted = Wanted { actions, ..wanted.clone() };
        let kept = cache.load(&key(app, &source, &wanted).ok()?).ok()??;
        kept.is_usable((app.now)()).then_some(kept)
    })
}

/// Asks the broker without using the cache.
pub(crate) fn ask(
    app: &App,
    source: TokenSource,
    wanted: &Wanted,
    patience: Patience,
) -> Result<Kept, Failure> {
    request(app, source, wanted, patience).map_err(Failure::from)
}

fn request(
    app: &App,
    source: TokenSource,
    wanted: &Wanted,
    patience: Patience,
) -> Result<Kept, RequestError> {
    let is_refused = Cell::new(false);
    let asked = app.ask_as(source, patience, |broker, token, deadline| {
        // The lifetime counts from before the request, so that the expiry is never too late.
        let now = (app.now)();
        let answer = broker.credentials(token, wanted, deadline);
        is_refused.set(answer.as_ref().is_err_and(|setback| setback.repeat == Repeat::Refused));
        Ok(Kept::new(answer?, now))
    });
    asked.map_err(|failure| {
        if is_refused.get() {
            RequestError::Refused(failure)
        } else {
            RequestError::Failed(failure)
        }
    })
}

/// The cached credential if it is usable.
fn load(app: &App, cache: &Cache, key: &CacheKey, complaints: &mut Vec<Complaint>) -> Option<Kept> {
    let loaded = cache.load(key).unwrap_or_else(|complaint| {
        complain(complaints, complaint);
        None
    });
    loaded.filter(|kept| kept.is_usable((app.now)()))
}

/// Adds a line once, because the same problem recurs in each round of a wait.
fn complain(complaints: &mut Vec<Complaint>, complaint: Complaint) {
    if !complaints.contains(&complaint) {
        complaints.push(complaint);
    }
}

fn another_process_is_too_slow() -> Failure {
    Failure::Unavailable(
        "another process is asking the broker for the same credentials and has no answer yet: try \
         again"
            .to_owned(),
    )
}

fn key(app: &App, source: &TokenSource, wanted: &Wanted) -> Result<CacheKey, Failure> {
    key_of(app, &source.identity(&app.settings), wanted)
}

/// `identity` comes from [`TokenSource::identity`].
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
        &wanted.lifetime.map_or_else(String::new, |seconds| seconds.to_string()),
    ]))
}

#[cfg(test)]
mod tests;
