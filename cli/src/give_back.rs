//! Gives credentials back that this program got and does not need any more.

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::broker::{CredentialState, Credentials, EndedCredential};
use crate::cache::Kept;
use crate::failure::{Failure, shown};
use crate::patience::Patience;
use crate::token::TokenSource;

/// Returns what became of the answer to the request with this id.
pub(crate) fn give_back(
    app: &App,
    source: TokenSource,
    id: &str,
    patience: Patience,
) -> Result<EndedCredential, Failure> {
    app.ask_as(source, patience, |broker, token, deadline| {
        broker.end_credential(token, id, deadline)
    })
}

/// A credential that can be given back.
#[derive(Clone, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Returnable {
    request_id: String,
    project: String,
    expires_at: Option<String>,
    /// In seconds since 1970 by this machine's clock, if that is known.
    ends_at: Option<u64>,
}

impl Returnable {
    /// `None` if the broker cannot end it.
    pub(crate) fn of(credentials: &Credentials) -> Option<Self> {
        let Credentials { request_id, project, expires_at, .. } = credentials;
        credentials.revocable.then(|| Self {
            request_id: request_id.clone(),
            project: project.clone(),
            expires_at: expires_at.clone(),
            ends_at: None,
        })
    }

    /// `None` if the broker cannot end it.
    pub(crate) fn of_kept(kept: &Kept) -> Option<Self> {
        let ends_at = kept.credentials.expires_in.map(|_| kept.expires_at);
        Some(Self { ends_at, ..Self::of(&kept.credentials)? })
    }

    pub(crate) fn has_expired(&self, now: u64) -> bool {
        self.ends_at.is_some_and(|at| at <= now)
    }
}

/// Gives a credential back. A failure is told with the request id, by which `revoke` can repeat it.
pub(crate) fn give_back_or_tell(
    app: &App,
    returnable: &Returnable,
    patience: Patience,
) -> Result<EndedCredential, Failure> {
    let Returnable { request_id, project, expires_at, .. } = returnable;
    let ended = if patience.deadline().is_over() {
        Err(Failure::Unavailable("there was no time left".to_owned()))
    } else {
        app.source().and_then(|source| give_back(app, source, request_id, patience))
    };
    if let Err(failure) = &ended {
        app.terminal.note(&format!(
            "rise-registry: the credential {} for {} is not given back and works until {}: {}",
            shown(request_id),
            shown(project),
            expires_at.as_deref().map_or("the broker ends it".to_owned(), shown),
            failure.line()
        ));
    }
    ended
}

/// Gives back all that have not expired, within `patience` for all of them together. Each has its
/// share of the time, so that the broker hears of all of them.
pub(crate) fn give_all_back(app: &App, all: &[Returnable], patience: Patience) {
    let now = (app.now)();
    let left = all.iter().filter(|returnable| !returnable.has_expired(now)).count();
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    let due = all.iter().filter(|returnable| !returnable.has_expired(now));
    for (others, returnable) in (0..left).rev().zip(due) {
        let share = patience.deadline().remaining() / (others + 1);
        let _ = give_back_or_tell(app, returnable, patience.once_within(share));
    }
}

/// What became of it, for people.
pub(crate) fn line(ended: &EndedCredential) -> String {
    let id = shown(&ended.credential);
    match ended.state {
        CredentialState::Ended => format!("{id} has ended"),
        CredentialState::Ending => {
            format!("{id} is about to end: the broker tries until the registry confirms it")
        }
        CredentialState::Shared => {
            let end = ended.expires_at.as_deref();
            let end = end.map(|at| format!(", or at {}", shown(at))).unwrap_or_default();
            format!("{id} is given back; others have it, and it ends with the last of them{end}")
        }
    }
}
