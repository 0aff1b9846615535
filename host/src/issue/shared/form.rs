//! How a credential, and the failure of a mint, lie in the store: a length, so many bytes of JSON,
//! and then the secret.
//!
//! **Invariant (I12):** what comes back is checked against the grant and the registry like what a
//! provider returns. Who has the key of the brokers can lie about how far a credential reaches at
//! its registry, as a provider can, and about nothing else.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::capability::MAX_SECRET;
use crate::domain::{
    Action, Actions, AwsSession, Credential, Credentials, EndedBy, EnforcedBy, Scope, Secret,
};
use crate::issue::IssueError;
use crate::issue::mint::{CLOCK_LEEWAY, MAX_USERNAME, is_plain};
use crate::issue::minted::Minted;
use crate::registries::Registry;
use crate::rules::Grant;

/// Of the note of a provider, the names of an AWS session and the text of a failure, in bytes.
const LONGEST_TEXT: usize = 4096;
const LENGTH: usize = 4;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialForm {
    registry: String,
    project: String,
    actions: Vec<Action>,
    minted_by: String,
    /// In milliseconds since the Unix epoch.
    minted_at: i64,
    kind: CredentialKind,
    username: Option<String>,
    /// In seconds since the Unix epoch.
    expires_at: Option<i64>,
    ended_by: EndedBy,
    note: Option<String>,
    scope: Scope,
    enforced_by: EnforcedBy,
    session: Option<SessionForm>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CredentialKind {
    ClientAuth,
    Basic,
    Bearer,
    Refresh,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionForm {
    session_name: String,
    role_arn: String,
    access_key_id: String,
    web_identity: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
enum FailureForm {
    ProviderFailed { text: String },
    UpstreamDenied { text: String },
    UpstreamThrottled { pause: Option<u32> },
    UpstreamUnavailable { text: String },
    UpstreamTimedOut { text: String },
}

pub(super) fn of_credential(minted: &Minted) -> Option<Zeroizing<Vec<u8>>> {
    let credentials = &*minted.credentials;
    let (kind, username) = match &credentials.credential {
        Credential::ClientAuth => (CredentialKind::ClientAuth, None),
        Credential::Basic { username, .. } => (CredentialKind::Basic, Some(username.clone())),
        Credential::Bearer(_) => (CredentialKind::Bearer, None),
        Credential::Refresh(_) => (CredentialKind::Refresh, None),
    };
    let form = CredentialForm {
        registry: credentials.registry.as_str().to_owned(),
        project: credentials.project.as_str().to_owned(),
        actions: credentials.actions.iter().collect(),
        minted_by: minted.by.to_string(),
        minted_at: minted.at.as_millisecond(),
        kind,
        username,
        expires_at: credentials.expires_at.map(Timestamp::as_second),
        ended_by: credentials.ended_by,
        note: credentials.note.clone(),
        scope: credentials.scope,
        enforced_by: credentials.enforced_by,
        session: credentials.session.as_ref().map(SessionForm::of),
    };
    join(&form, credentials.credential.secret().map_or("", Secret::expose))
}

/// The credential in `text`, if it answers `grant`.
pub(super) fn credential(
    text: &[u8],
    registry: &Registry,
    grant: &Grant,
    now: Timestamp,
) -> Option<Minted> {
    let (form, secret) = split::<CredentialForm>(text)?;
    let is_of_grant = form.registry == registry.name.as_str()
        && form.project == grant.project().as_str()
        && form.actions.iter().copied().collect::<Actions>() == grant.actions();
    let by: Ulid = form.minted_by.parse().ok()?;
    let at = Timestamp::from_millisecond(form.minted_at).ok()?;
    let expires_at = form.expires_at.map(Timestamp::from_second).transpose().ok()?;
    if !is_of_grant || !is_plausible((at, expires_at), registry, now) {
        return None;
    }
    let has_secret = form.kind != CredentialKind::ClientAuth;
    let is_accepted = form.scope <= registry.accepted && form.scope >= registry.scope;
    let is_narrow = if has_secret { is_accepted } else { form.scope == Scope::None };
    let has_note = form.note.as_ref().is_none_or(|note| registry.revokes() && is_short(note));
    // Only what a provider remembered can a broker end.
    let has_end = form.ended_by == EndedBy::Registry || form.note.is_some();
    if !is_narrow || (has_secret && form.scope == Scope::None) || !has_note || !has_end {
        return None;
    }
    let credential = credential_of(form.kind, form.username, secret, registry)?;
    let session = form.session.map(SessionForm::session);
    let credentials = Credentials {
        project: grant.project().clone(),
        registry: registry.name.clone(),
        actions: grant.actions(),
        location: registry.locate(grant.project()),
        credential,
        expires_at,
        ended_by: form.ended_by,
        note: form.note,
        scope: form.scope,
        enforced_by: form.enforced_by,
        session: session.map_or(Some(None), |session| session.map(Some))?,
    };
    let (credentials, lifetime) = (Arc::new(credentials), grant.lifetime());
    Some(Minted { credentials, by, at, lifetime, took: Duration::ZERO, is_ours: false })
}

/// Whether a credential can have been minted then, and is of use now.
fn is_plausible(
    (at, expires_at): (Timestamp, Option<Timestamp>),
    registry: &Registry,
    now: Timestamp,
) -> bool {
    let seconds = |from: Timestamp, to: Timestamp| to.as_second().saturating_sub(from.as_second());
    let longest = i64::from(registry.max_lifetime) + CLOCK_LEEWAY;
    let is_of_the_past = seconds(at, now) >= -CLOCK_LEEWAY;
    is_of_the_past
        && expires_at
            .is_none_or(|end| seconds(now, end) > 0 && (1..=longest).contains(&seconds(at, end)))
}

fn credential_of(
    kind: CredentialKind,
    username: Option<String>,
    secret: &str,
    registry: &Registry,
) -> Option<Credential> {
    if kind == CredentialKind::ClientAuth {
        let is_bare = username.is_none() && secret.is_empty();
        return is_bare.then_some(Credential::ClientAuth);
    }
    if !is_plain(secret, MAX_SECRET) {
        return None;
    }
    let secret = Secret::new(secret.to_owned());
    match (kind, username) {
        (CredentialKind::Basic, Some(username)) => {
            let is_name = is_plain(&username, MAX_USERNAME)
                && !username.contains(':')
                && !registry.capabilities.reveals_secret(&username);
            is_name.then_some(Credential::Basic { username, password: secret })
        }
        (CredentialKind::Bearer, None) => Some(Credential::Bearer(secret)),
        (CredentialKind::Refresh, None) => Some(Credential::Refresh(secret)),
        _ => None,
    }
}

impl SessionForm {
    fn of(session: &AwsSession) -> Self {
        let AwsSession { session_name, role_arn, access_key_id, web_identity } = session.clone();
        Self { session_name, role_arn, access_key_id, web_identity }
    }

    fn session(self) -> Option<AwsSession> {
        let Self { session_name, role_arn, access_key_id, web_identity } = self;
        let is_right = [&session_name, &role_arn, &access_key_id]
            .into_iter()
            .chain(&web_identity)
            .all(|text| is_plain(text, LONGEST_TEXT));
        let session = AwsSession { session_name, role_arn, access_key_id, web_identity };
        is_right.then_some(session)
    }
}

/// `None`: other brokers may succeed, or find out by themselves.
pub(super) fn of_failure(error: &IssueError) -> Option<Zeroizing<Vec<u8>>> {
    let text =
        |text: &String| text.get(..text.floor_char_boundary(LONGEST_TEXT)).map(str::to_owned);
    let form = match error {
        IssueError::ProviderFailed(cause) => FailureForm::ProviderFailed { text: text(cause)? },
        IssueError::UpstreamDenied(cause) => FailureForm::UpstreamDenied { text: text(cause)? },
        IssueError::UpstreamThrottled(pause) => FailureForm::UpstreamThrottled { pause: *pause },
        IssueError::UpstreamUnavailable(cause) => {
            FailureForm::UpstreamUnavailable { text: text(cause)? }
        }
        IssueError::UpstreamTimedOut(cause) => FailureForm::UpstreamTimedOut { text: text(cause)? },
        IssueError::LeftAlone { .. }
        | IssueError::Overloaded
        | IssueError::OutstandingFull
        | IssueError::ListUnavailable(_)
        | IssueError::Limited(_)
        | IssueError::Replayed(_)
        | IssueError::Audit(_)
        | IssueError::RepositoryConflict(_)
        | IssueError::Internal(_) => return None,
    };
    join(&form, "")
}

pub(super) fn failure(text: &[u8]) -> Option<IssueError> {
    let (form, rest) = split::<FailureForm>(text)?;
    let error = match form {
        FailureForm::ProviderFailed { text } => IssueError::ProviderFailed(text),
        FailureForm::UpstreamDenied { text } => IssueError::UpstreamDenied(text),
        FailureForm::UpstreamThrottled { pause } => IssueError::UpstreamThrottled(pause),
        FailureForm::UpstreamUnavailable { text } => IssueError::UpstreamUnavailable(text),
        FailureForm::UpstreamTimedOut { text } => IssueError::UpstreamTimedOut(text),
    };
    rest.is_empty().then_some(error)
}

fn is_short(text: &str) -> bool {
    text.len() <= LONGEST_TEXT
}

/// The buffer is made as long as it must be, so that it leaves no copy of the secret behind.
fn join(form: &impl Serialize, secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    let json = serde_json::to_vec(form).ok()?;
    let length = u32::try_from(json.len()).ok()?;
    let mut text = Zeroizing::new(Vec::with_capacity(LENGTH + json.len() + secret.len()));
    text.extend_from_slice(&length.to_le_bytes());
    text.extend_from_slice(&json);
    text.extend_from_slice(secret.as_bytes());
    Some(text)
}

fn split<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<(T, &'a str)> {
    let (length, rest) = text.split_first_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (json, secret) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(json).ok()?, std::str::from_utf8(secret).ok()?))
}
