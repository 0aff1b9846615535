//! A grant becomes credentials: the provider is called, and what comes back is verified.
//!
//! **Invariant:** what leaves here was checked by the host whatever the provider says: its shape, its expiry, and by the
//! origin of its secret how much it opens. A cache and the sharing of calls in flight will stand in [`issue`], after the
//! grant and before the call.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::capability::secrets::{SecretHandle, SecretOrigin};
use crate::capability::{CallState, MAX_SECRET, printable};
use crate::domain::{Clock, Credential, Credentials, Deadline, EnforcedBy, Scope, Secret};
use crate::limits::Admitted;
use crate::provider::{CallError, Finished, IssueCall};
use crate::registries::Registry;
use crate::rules::Grant;
use crate::wit::rise::registry::types::{self, Error, Issued};

/// Why there are no credentials, by what happens next. Texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The provider did what it must not, or cannot do what it should: its author or the settings.
    #[error("{0}")]
    ProviderFailed(String),
    /// The registry or cloud said no: its permissions.
    #[error("{0}")]
    UpstreamDenied(String),
    /// Later: the registry or cloud asks for a pause, in seconds where it says.
    #[error("the registry or cloud asks for a pause")]
    UpstreamThrottled(Option<u32>),
    /// Later.
    #[error("{0}")]
    UpstreamUnavailable(String),
    /// Later: it did not answer in time.
    #[error("{0}")]
    UpstreamTimedOut(String),
    /// Later: we have too much to do.
    #[error("too many provider calls at once")]
    Overloaded,
    /// Ours.
    #[error("{0}")]
    Internal(String),
}

/// An expiry this far past the registry's bound may be a clock that differs.
const CLOCK_LEEWAY: i64 = 300;
/// What ends sooner is of no use to anybody.
const SHORTEST: i64 = 60;
/// What is left of a request's time when the provider has had its share: for the record and the answer.
const RESERVE: Duration = Duration::from_millis(300);
const MAX_USERNAME: usize = 256;

pub async fn issue(
    registry: &Registry,
    admitted: &Admitted,
    clock: &Clock,
) -> Result<Credentials, IssueError> {
    issue_granted(registry, admitted.grant(), admitted.deadline().less(RESERVE), clock).await
}

/// The same without a caller: for commands by which somebody tries out a provider with settings of their own.
pub async fn issue_granted(
    registry: &Registry,
    grant: &Arc<Grant>,
    deadline: Deadline,
    clock: &Clock,
) -> Result<Credentials, IssueError> {
    let issue = IssueCall { settings: Arc::clone(&registry.settings), grant: Arc::clone(grant) };
    let called = registry.provider.call_until(issue, &registry.capabilities, deadline).await;
    let Finished { value, mut state } = called.map_err(call_failed)?;
    let issued = value.map_err(|error| provider_error(error, &state))?;
    let returned = Returned::take(issued, &mut state)?;
    let credentials = verify(returned, registry, grant, clock.now())?;
    Ok(Credentials { session: state.session, ..credentials })
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn call_failed(error: CallError) -> IssueError {
    match error {
        CallError::Trapped(_) | CallError::Limit(_) => {
            IssueError::ProviderFailed(error.to_string())
        }
        CallError::UpstreamTimedOut => IssueError::UpstreamTimedOut(error.to_string()),
        CallError::Overloaded => IssueError::Overloaded,
        CallError::Host(_) => IssueError::Internal(error.to_string()),
    }
}

/// What a provider's error means. That AWS did not answer in time is what the host saw, not what the provider says.
fn provider_error(error: Error, state: &CallState) -> IssueError {
    let clean = |text: String| {
        if state.capabilities.reveals_secret(&text) {
            "(withheld: holds a configured secret)".to_owned()
        } else {
            printable(&text, 512)
        }
    };
    match error {
        Error::Refused(text) => IssueError::ProviderFailed(format!(
            "asked for {}",
            state.refused.clone().unwrap_or_else(|| clean(text))
        )),
        Error::InvalidSettings(text) => {
            IssueError::ProviderFailed(format!("its settings are wrong: {}", clean(text)))
        }
        Error::Unsupported(text) => {
            IssueError::ProviderFailed(format!("cannot do that here: {}", clean(text)))
        }
        Error::Failed(text) => IssueError::ProviderFailed(clean(text)),
        Error::Denied(text) => IssueError::UpstreamDenied(clean(text)),
        Error::NotFound(text) => {
            IssueError::UpstreamDenied(format!("no such repository: {}", clean(text)))
        }
        Error::Throttled(pause) => IssueError::UpstreamThrottled(pause),
        Error::Unavailable(text) if state.upstream_slow => {
            IssueError::UpstreamTimedOut(clean(text))
        }
        Error::Unavailable(text) => IssueError::UpstreamUnavailable(clean(text)),
    }
}

/// What a provider handed back, its secret taken out of its hands.
struct Returned {
    credential: Credential,
    /// `None` for `client-auth`.
    secret: Option<(SecretOrigin, Option<u64>)>,
    expires_at: Option<u64>,
}

impl Returned {
    fn take(issued: Issued, state: &mut CallState) -> Result<Self, IssueError> {
        let mut taken = None;
        let mut take = |handle| -> Result<Secret, IssueError> {
            let SecretHandle { secret, origin, expires_at, .. } = state
                .take_secret(handle)
                .map_err(|error| IssueError::Internal(error.to_string()))?;
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
            && state.capabilities.reveals_secret(username)
        {
            return Err(IssueError::ProviderFailed(
                "returned a user name that holds a configured secret".to_owned(),
            ));
        }
        Ok(Self { credential, secret: taken, expires_at: issued.expires_at })
    }
}

fn verify(
    returned: Returned,
    registry: &Registry,
    grant: &Grant,
    now: Timestamp,
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
    let (seen, enforced_by) = match &secret {
        None => (Scope::None, EnforcedBy::Host),
        Some((SecretOrigin::Aws(scope), _)) => (*scope, EnforcedBy::Host),
        Some((SecretOrigin::Configured, _)) => (Scope::Registry, EnforcedBy::Host),
        // Whatever its way here: a secret of the settings opens what the operator's account may do.
        Some((SecretOrigin::Http | SecretOrigin::Guest, _))
            if credential
                .secret()
                .is_some_and(|it| registry.capabilities.reveals_secret(it.expose())) =>
        {
            (Scope::Registry, EnforcedBy::Host)
        }
        Some((SecretOrigin::Http | SecretOrigin::Guest, _)) if registry.trust_provider => {
            (registry.scope, EnforcedBy::Provider)
        }
        Some((SecretOrigin::Http, _)) => {
            return wrong(
                "a secret that the registry answered, and this registry does not set `trust_provider`",
            );
        }
        Some((SecretOrigin::Guest, _)) => {
            return wrong(
                "a secret that it wrote itself, and this registry does not set `trust_provider`",
            );
        }
    };
    // Handing out nothing is as narrow as it gets, whatever the settings would allow.
    let scope = if secret.is_some() { seen.max(registry.scope) } else { Scope::None };
    if secret.is_some() && scope == Scope::None {
        return wrong("a credential, where it says that it hands out none");
    }
    if scope > registry.accepted {
        return Err(IssueError::ProviderFailed(format!(
            "returned a credential that opens a {scope}, where {} is accepted",
            registry.accepted
        )));
    }
    // What the host knows of a secret's end counts more than what the provider says.
    let expires_at = secret.and_then(|(_, known)| known).or(expires_at);
    Ok(Credentials {
        project: grant.project().clone(),
        registry: registry.name.clone(),
        actions: grant.actions(),
        location: registry.locate(grant.project()),
        expires_at: expires_at.map(|it| expiry(it, registry, now)).transpose()?,
        credential,
        scope,
        enforced_by,
        session: None,
    })
}

fn is_plain(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn expiry(seconds: u64, registry: &Registry, now: Timestamp) -> Result<Timestamp, IssueError> {
    let wrong = |text: String| IssueError::ProviderFailed(format!("returned {text}"));
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let at = at.ok_or_else(|| wrong("an expiry that is no time".to_owned()))?;
    let left = at.as_second().saturating_sub(now.as_second());
    if left < SHORTEST {
        return Err(wrong(format!(
            "a credential that ends at {at}, less than {SHORTEST} seconds from now"
        )));
    }
    if left > i64::from(registry.max_lifetime) + CLOCK_LEEWAY {
        return Err(wrong(format!(
            "a credential that ends at {at}, beyond the registry's `max_lifetime` of {} seconds",
            registry.max_lifetime
        )));
    }
    Ok(at)
}
