//! Gives credentials back that this program got and does not need any more.

use crate::app::App;
use crate::broker::{CredentialState, Credentials, EndedCredential};
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
pub(crate) struct Returnable {
    request_id: String,
    project: String,
    expires_at: Option<String>,
}

impl Returnable {
    /// `None` if the broker cannot end it.
    pub(crate) fn of(credentials: &Credentials) -> Option<Self> {
        let Credentials { request_id, project, expires_at, .. } = credentials;
        let (request_id, project) = (request_id.clone(), project.clone());
        credentials.revocable.then(|| Self { request_id, project, expires_at: expires_at.clone() })
    }
}

/// Returns how many were given back. What fails is told, because it works until it expires.
pub(crate) fn give_all_back(app: &App, all: &[Returnable], patience: Patience) -> usize {
    let mut given = 0;
    for Returnable { request_id, project, expires_at } in all {
        let source = app.source();
        let ended =
            source.and_then(|source| give_back(app, source, request_id, patience.restarted()));
        match ended {
            Ok(_) => given += 1,
            Err(failure) => app.terminal.note(&format!(
                "rise-registry: a credential for {project} is not given back and works until {}: \
                 {}",
                expires_at.as_deref().map_or("the broker ends it".to_owned(), shown),
                failure.line()
            )),
        }
    }
    given
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
