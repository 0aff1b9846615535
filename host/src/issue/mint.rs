//! One provider call that makes a new credential. What the provider returns becomes
//! [`Credentials`], or is rejected.
//!
//! **Invariant:** whatever the provider says, the host itself checks the form of the credential,
//! its expiry, and how much it opens, which follows from where its secret comes from.

use std::sync::Arc;

use jiff::Timestamp;

use super::{IssueError, access, error};
use crate::capability::secrets::{SecretHandle, SecretOrigin};
use crate::capability::wit::rise::registry::types::{self, Issued as ReturnedCredential};
use crate::capability::{CallState, MAX_SECRET};
use crate::domain::{Clock, Credential, Credentials, Deadline, EndedBy, EnforcedBy, Scope, Secret};
use crate::provider::{CallError, Finished, IssueCall};
use crate::registries::Registry;
use crate::rules::Grant;

/// An expiry may lie this many seconds beyond the registry's bound, because clocks differ.
pub(super) const CLOCK_LEEWAY: i64 = 300;
/// Credentials that expire sooner than this are rejected: no client could use them.
const SHORTEST: i64 = 60;
/// As seconds, this is in the year 5138; as milliseconds, in 1973.
const MILLISECONDS: u64 = 100_000_000_000;
pub(super) const MAX_USERNAME: usize = 256;

/// A provider call that brought no credential.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct FailedMint {
    pub error: IssueError,
    pub leftover: Leftover,
}

/// What a failed call has left at the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    Nothing,
    /// Perhaps a credential that nobody got.
    Unknown,
    /// A credential that nobody got, with the note of its provider.
    Noted(String),
}

/// Calls the registry's provider for `grant`. Limits and audit records are up to the caller:
/// [`Issuing`](super::Issuing) for a server, nobody for the commands that try out a provider.
pub async fn mint(
    registry: &Registry,
    grant: &Arc<Grant>,
    deadline: Deadline,
    clock: &Clock,
) -> Result<Credentials, FailedMint> {
    let can_end = registry.revokes();
    let issue = IssueCall { settings: Arc::clone(&registry.settings), grant: Arc::clone(grant) };
    let called = registry.provider.call_until(issue, &registry.capabilities, deadline).await;
    let Finished { value, mut state } = called.map_err(|error| FailedMint {
        leftover: if can_end { Leftover::of_call(&error) } else { Leftover::Nothing },
        error: error.into(),
    })?;
    let note = state.note.take().filter(|_| can_end);
    let is_unknown = can_end && value.as_ref().err().is_some_and(may_follow_a_mint);
    let verified = value
        .map_err(|error| error::returned(error, &state))
        .and_then(|returned| Returned::take(returned, &mut state))
        .and_then(|returned| verify(returned, registry, grant, (clock.now(), note.is_some())));
    match (verified, note) {
        (Ok(credentials), note) => Ok(Credentials { note, ..credentials }),
        (Err(error), Some(note)) => Err(FailedMint { error, leftover: Leftover::Noted(note) }),
        (Err(error), None) => {
            let leftover = if is_unknown { Leftover::Unknown } else { Leftover::Nothing };
            Err(FailedMint { error, leftover })
        }
    }
}

/// Whether the registry may have made something before this error: its answer was lost, or was not
/// what the provider or the host accepts. A registry that denies has made nothing.
fn may_follow_a_mint(error: &types::Error) -> bool {
    match error {
        types::Error::Unavailable(_) | types::Error::Failed(_) | types::Error::Refused(_) => true,
        types::Error::InvalidSettings(_)
        | types::Error::Denied(_)
        | types::Error::NotFound(_)
        | types::Error::Throttled(_)
        | types::Error::Unsupported(_) => false,
    }
}

impl Leftover {
    fn of_call(error: &CallError) -> Self {
        match error {
            // No instance was made.
            CallError::Overloaded => Self::Nothing,
            CallError::Trapped(_)
            | CallError::Limit(_)
            | CallError::UpstreamTimedOut
            | CallError::Host(_) => Self::Unknown,
        }
    }
}

/// The result of a provider call, with the secret taken out of the call.
struct Returned {
    credential: Credential,
    /// Origin and known expiry of the secret. `None` for `client-auth`.
    secret: Option<(SecretOrigin, Option<u64>)>,
    expires_at: Option<u64>,
}

impl Returned {
    fn take(issued: ReturnedCredential, state: &mut CallState) -> Result<Self, IssueError> {
        let mut taken = None;
        let mut take = |handle| -> Result<Secret, IssueError> {
            let handle = state
                .release_secret(handle)
                .map_err(|error| IssueError::Internal(error.to_string()))?;
            is_for_callers(&handle, state)?;
            let SecretHandle { secret, origin, expires_at, .. } = handle;
            taken = Some((origin, expires_at));
            Ok(Secret::new(secret.expose().to_owned()))
        };
        let credential = match issued.credential {
            types::Credential::ClientAuth => Credential::ClientAuth,
            types::Credential::Basic(login) => {
                Credential::Basic { username: login.username, password: take(login.password)? }
            }
            types::Credential::Bearer(secret) => Credential::Bearer(take(secret)?),
            types::Credential::Refresh(secret) => Credential::Refresh(take(secret)?),
        };
        if let Credential::Basic { username, .. } = &credential
            && username.len() <= MAX_USERNAME
            && let Some(secret) = secret_in(username, state)
        {
            return Err(IssueError::ProviderFailed(format!(
                "returned a user name that holds {secret}, and user names are logged"
            )));
        }
        Ok(Self { credential, secret: taken, expires_at: issued.expires_at })
    }
}

/// Some secrets go to the registry's own endpoints only, wherever the provider got their text from.
fn is_for_callers(handle: &SecretHandle, state: &CallState) -> Result<(), IssueError> {
    let signed = match handle.origin {
        SecretOrigin::Assertion => Some("an assertion"),
        SecretOrigin::IdentityToken => Some("an identity token"),
        SecretOrigin::Configured
        | SecretOrigin::Aws(_)
        | SecretOrigin::RegistryToken
        | SecretOrigin::Http
        | SecretOrigin::Kept
        | SecretOrigin::Random
        | SecretOrigin::Guest => {
            state.issued.private(|secret| handle.secret.expose().contains(secret.expose()))
        }
    };
    let is_kept =
        handle.origin == SecretOrigin::Kept || state.capabilities.kept.has(&handle.secret);
    if let Some(kind) = signed.or(is_kept.then_some("a login that it keeps")) {
        return Err(IssueError::ProviderFailed(format!(
            "returned {kind}, which goes to the registry's endpoints and never to a caller"
        )));
    }
    Ok(())
}

fn secret_in(username: &str, state: &CallState) -> Option<&'static str> {
    if state.capabilities.reveals_secret(username) {
        Some("a configured secret")
    } else {
        state.issued.has_handle_in(username).then_some("an issued secret")
    }
}

fn verify(
    returned: Returned,
    registry: &Registry,
    grant: &Grant,
    (now, can_end): (Timestamp, bool),
) -> Result<Credentials, IssueError> {
    let wrong = |text: &str| Err(IssueError::ProviderFailed(format!("returned {text}")));
    let Returned { credential, secret, expires_at } = returned;
    if let Credential::Basic { username, .. } = &credential
        && (!is_plain(username, MAX_USERNAME) || username.contains(':'))
    {
        return wrong("a user name that is empty, too long or holds `:` or control characters");
    }
    if credential.secret().is_some_and(|secret| !is_plain(secret.expose(), MAX_SECRET)) {
        return wrong("a secret that is empty, too long or holds control characters");
    }
    let (seen, enforced_by) = scope_of(secret.as_ref(), &credential, registry)?;
    // No secret is the narrowest scope, whatever the settings allow.
    let scope = if secret.is_some() { seen.max(registry.scope) } else { Scope::None };
    if secret.is_some() && scope == Scope::None {
        return wrong("a credential, although it says that it issues none");
    }
    if scope > registry.accepted {
        return Err(IssueError::ProviderFailed(format!(
            "returned a credential that opens a {scope}, where {} is accepted",
            registry.accepted
        )));
    }
    let location = registry.locate(grant.project());
    if scope == Scope::Repository
        && enforced_by == EnforcedBy::Provider
        && let Some(token) = credential.secret()
    {
        access::check(token.expose(), &location, grant.actions(), registry.shape.children)?;
    }
    let known = secret.as_ref().and_then(|(_, known)| *known).or(expires_at);
    let granted = granted_end(grant, now).filter(|_| can_end);
    let (expires_at, ended_by) = match granted {
        Some(end) if outlives(known, end) => (Some(end), EndedBy::Broker),
        Some(_) | None => (expiry(secret.as_ref(), expires_at, registry, now)?, EndedBy::Registry),
    };
    Ok(Credentials {
        project: grant.project().clone(),
        registry: registry.name.clone(),
        actions: grant.actions(),
        location,
        expires_at,
        ended_by,
        note: None,
        credential,
        scope,
        enforced_by,
        session: secret.and_then(|(origin, _)| origin.into_session()),
    })
}

/// What a credential opens by the origin of its secret, and who ensures that.
fn scope_of(
    secret: Option<&(SecretOrigin, Option<u64>)>,
    credential: &Credential,
    registry: &Registry,
) -> Result<(Scope, EnforcedBy), IssueError> {
    let wrong = |text: &str| Err(IssueError::ProviderFailed(format!("returned {text}")));
    match secret {
        None => Ok((Scope::None, EnforcedBy::Host)),
        // The host has written what these two open.
        Some((SecretOrigin::Aws(Some(_)) | SecretOrigin::RegistryToken, _)) => {
            Ok((Scope::Repository, EnforcedBy::Host))
        }
        Some((SecretOrigin::Aws(None) | SecretOrigin::Configured, _)) => {
            Ok((Scope::Registry, EnforcedBy::Host))
        }
        // A configured secret opens everything that the operator's account may do, wherever it was.
        Some((SecretOrigin::Http | SecretOrigin::Random | SecretOrigin::Guest, _))
            if credential
                .secret()
                .is_some_and(|secret| registry.capabilities.reveals_secret(secret.expose())) =>
        {
            Ok((Scope::Registry, EnforcedBy::Host))
        }
        Some((SecretOrigin::Http | SecretOrigin::Random | SecretOrigin::Guest, _))
            if registry.trust_provider =>
        {
            Ok((registry.scope, EnforcedBy::Provider))
        }
        Some((SecretOrigin::Http, _)) => {
            wrong("a secret from an HTTP answer, and this registry does not set `trust_provider`")
        }
        Some((SecretOrigin::Random, _)) => wrong(
            "a password that the host made for it, and only the provider knows what that opens: \
             this registry does not set `trust_provider`",
        ),
        // `is_for_callers` has rejected the last three.
        Some((
            SecretOrigin::Guest
            | SecretOrigin::Kept
            | SecretOrigin::Assertion
            | SecretOrigin::IdentityToken,
            _,
        )) => wrong("a secret of its own making, and this registry does not set `trust_provider`"),
    }
}

pub(super) fn is_plain(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// When the granted lifetime is over.
fn granted_end(grant: &Grant, now: Timestamp) -> Option<Timestamp> {
    let seconds = i64::from(grant.lifetime().seconds());
    Timestamp::from_second(now.as_second().saturating_add(seconds)).ok()
}

/// Whether the registry ends the credential clearly later than `end`, or never.
fn outlives(known: Option<u64>, end: Timestamp) -> bool {
    let Some(seconds) = known else { return true };
    i64::try_from(seconds)
        .map_or(true, |seconds| seconds > end.as_second().saturating_add(SHORTEST))
}

/// The expiry of a credential. The one that the host knows counts more than the one that the
/// provider says.
fn expiry(
    secret: Option<&(SecretOrigin, Option<u64>)>,
    returned: Option<u64>,
    registry: &Registry,
    now: Timestamp,
) -> Result<Option<Timestamp>, IssueError> {
    let known = secret.and_then(|(_, known)| *known);
    if let Some(seconds) = known.or(returned) {
        return checked(seconds, registry, now).map(Some);
    }
    // Without a note the broker ends nothing. A shared account of the settings never ended.
    let was_made = matches!(
        secret,
        Some((SecretOrigin::Http | SecretOrigin::Random | SecretOrigin::Guest, _))
    );
    if was_made && !registry.accept_endless {
        let forgot = if registry.revokes() {
            "the provider exports `revocation` and remembered nothing, so the broker would not end \
             it: call `grant.remember` as soon as the registry has made it; or "
        } else {
            ""
        };
        return Err(IssueError::ProviderFailed(format!(
            "returned a credential without an expiry; {forgot}let the registry make one that \
             expires, or accept it with `accept_endless = true`"
        )));
    }
    Ok(None)
}

fn checked(seconds: u64, registry: &Registry, now: Timestamp) -> Result<Timestamp, IssueError> {
    let wrong = |text: String| IssueError::ProviderFailed(format!("returned {text}"));
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let milliseconds = (MILLISECONDS..MILLISECONDS * 1000).contains(&seconds);
    let at = at.filter(|_| !milliseconds).ok_or_else(|| {
        let hint = if milliseconds { ", so it may be in milliseconds" } else { "" };
        wrong(format!("an expiry that is not a valid time: expected seconds, and {seconds}{hint}"))
    })?;
    let left = at.as_second().saturating_sub(now.as_second());
    if left < SHORTEST {
        return Err(wrong(format!(
            "a credential that expires at {at}, less than {SHORTEST} seconds from now"
        )));
    }
    if left > i64::from(registry.max_lifetime) + CLOCK_LEEWAY {
        return Err(wrong(format!(
            "a credential that expires at {at}, beyond the registry's `max_lifetime` of {} seconds",
            registry.max_lifetime
        )));
    }
    Ok(at)
}
