//! The identity that assumes roles: the base identity, or `role_arn` assumed from it.
//!
//! Its keys are renewed ahead of their end while they still serve. Callers that have no good keys
//! share one attempt and its error. Keys that AWS rejects are dropped and assumed anew once: a role
//! was made anew, or its sessions were revoked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::identity::IdentityCache;
use tokio::time::Instant;

use super::failure::own_role;
use super::retry::{RetryBudget, retrying};
use super::{is_session_of, sts, with_keys};
use crate::capability::aws::AwsError;
use crate::flight::{Flight, Flights};

/// Keys that end sooner are renewed while they serve.
const RENEW_AHEAD: Duration = Duration::from_mins(10);
/// Keys that end sooner serve only if there are no others.
const LAST_USE: Duration = Duration::from_secs(30);
/// Between two renewals in the background, so that an AWS that fails is not asked by each request.
const RENEW_AGAIN: Duration = Duration::from_secs(5);
/// Between two times that a denial makes the broker assume its role anew. Most denials are
/// permissions that are missing, which new keys do not change.
const DENIED_AGAIN: Duration = Duration::from_mins(1);
/// Of one renewal: less than a provider call may take, so that its callers hear the reason.
const RENEWAL: Duration = Duration::from_secs(6);

/// The identity that assumes roles. All clones are one.
#[derive(Clone)]
pub(super) struct Controller(Arc<ControllerState>);

struct ControllerState {
    role_arn: Option<String>,
    has_own_keys: bool,
    budget: Arc<RetryBudget>,
    known: Mutex<Known>,
    renewals: Flights<(), Result<Arc<Identity>, AwsError>>,
}

struct Known {
    /// Configured with the base identity: that of the default chain, or the keys of the settings.
    base: SdkConfig,
    identity: Option<Arc<Identity>>,
    /// Whether the base identity is `role_arn` already. `None` before AWS has said so.
    is_role: Option<bool>,
    renew_not_before: Option<Instant>,
    denied_not_before: Option<Instant>,
}

/// An identity that AWS has given.
pub(super) struct Identity {
    pub config: SdkConfig,
    /// `None`: the SDK renews it, or it never expires.
    ends: Option<SystemTime>,
    /// AWS has accepted a call with it.
    has_worked: AtomicBool,
}

impl Controller {
    /// `has_own_keys`: the settings have the keys of `base`.
    pub(super) fn new(
        base: SdkConfig,
        role_arn: Option<String>,
        has_own_keys: bool,
        budget: Arc<RetryBudget>,
    ) -> Self {
        let known = Known {
            base,
            identity: None,
            is_role: None,
            renew_not_before: None,
            denied_not_before: None,
        };
        let (known, renewals) = (Mutex::new(known), Flights::default());
        Self(Arc::new(ControllerState { role_arn, has_own_keys, budget, known, renewals }))
    }

    pub(super) fn base(&self) -> SdkConfig {
        self.known().base.clone()
    }

    /// Makes `call` with the identity, and once more with a new one if AWS rejects the kept one.
    pub(super) async fn act<T, F>(&self, call: impl Fn(SdkConfig) -> F) -> Result<T, AwsError>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        let identity = self.identity().await?;
        let again = match call(identity.config.clone()).await {
            Ok(answer) => {
                identity.has_worked.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Err(error) if self.forget(&identity, &error) => {
                tracing::warn!(%error, "AWS rejects the broker's identity, which is obtained anew");
                self.identity().await?
            }
            Err(error) => return Err(error),
        };
        let answer = call(again.config.clone()).await?;
        again.has_worked.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    /// Keys that are good for a while, renewed if need be.
    pub(super) async fn identity(&self) -> Result<Arc<Identity>, AwsError> {
        let kept = self.known().identity.clone();
        let Some(kept) = kept else { return self.renewed().await };
        if !kept.ends_within(RENEW_AHEAD) {
            return Ok(kept);
        }
        if kept.ends_within(LAST_USE) {
            let renewed = self.renewed().await;
            return if kept.ends_within(Duration::ZERO) { renewed } else { renewed.or(Ok(kept)) };
        }
        self.renew_ahead();
        Ok(kept)
    }

    /// Starts a renewal that nobody waits for.
    fn renew_ahead(&self) {
        let now = Instant::now();
        let mut known = self.known();
        if known.renew_not_before.is_some_and(|moment| now < moment) {
            return;
        }
        known.renew_not_before = Some(now + RENEW_AGAIN);
        drop(known);
        drop(self.renewal());
    }

    async fn renewed(&self) -> Result<Arc<Identity>, AwsError> {
        let ended = || Err(AwsError::Unavailable("the renewal of keys ended early".to_owned()));
        self.renewal().landed().await.unwrap_or_else(ended)
    }

    fn renewal(&self) -> Flight<Result<Arc<Identity>, AwsError>> {
        let (finding, keeping) = (self.clone(), self.clone());
        let work = async move { finding.find().await };
        let land = move |found: Option<Result<Identity, AwsError>>| {
            let late = || Err(AwsError::TimedOut(format!("no keys within {RENEWAL:?}")));
            let found = found.unwrap_or_else(late).map(Arc::new);
            match &found {
                Ok(identity) => keeping.known().identity = Some(Arc::clone(identity)),
                Err(error) => tracing::warn!(%error, "the broker's AWS keys cannot be renewed"),
            }
            found
        };
        self.0.renewals.join_or_start((), RENEWAL, work, land)
    }

    /// Assumes `role_arn` from the base identity, unless that is already the role.
    ///
    /// A credentials provider inside the SDK would have to finish with all its retries within one
    /// attempt of the request that needs it, so every failure would become a timeout.
    async fn find(&self) -> Result<Identity, AwsError> {
        let Some(role_arn) = &self.0.role_arn else { return Ok(Identity::of(self.base(), None)) };
        // Without an answer the role is assumed all the same, which most often works.
        let unsure = match self.base_is(role_arn).await {
            Ok(true) => return Ok(Identity::of(self.base(), None)),
            Ok(false) => None,
            Err(error) if error.is_passing() => Some(error),
            Err(error) => return Err(error),
        };
        let assume = |base: SdkConfig| {
            let request = sts(&base).assume_role();
            super::session(request.role_arn(role_arn).role_session_name("rise-broker"))
        };
        let keys = self.call_as_base(assume).await;
        let keys = keys.map_err(|error| match (error, unsure) {
            (AwsError::Denied(_), Some(unsure)) => unsure,
            (error, _) => own_role(error),
        })?;
        let ends = keys.expiry();
        Ok(Identity::of(with_keys(&self.base(), keys), ends))
    }

    /// Whether the base identity is a session of this role.
    async fn base_is(&self, role_arn: &str) -> Result<bool, AwsError> {
        if let Some(is_role) = self.known().is_role {
            return Ok(is_role);
        }
        let arn = self.call_as_base(super::caller_arn).await?;
        let is_role = is_session_of(&arn, role_arn);
        self.known().is_role = Some(is_role);
        Ok(is_role)
    }

    /// Makes `call` with the base identity, and once more if AWS rejects its keys and there may be
    /// others.
    async fn call_as_base<T, F>(&self, call: impl Fn(SdkConfig) -> F) -> Result<T, AwsError>
    where
        F: Future<Output = Result<T, AwsError>>,
    {
        match retrying(&self.0.budget, || call(self.base())).await {
            Err(AwsError::RejectedKeys(_)) if self.refresh_base() => {
                retrying(&self.0.budget, || call(self.base())).await
            }
            answer => answer,
        }
    }

    /// Drops the identity if another one may do better. Returns whether to try with another one.
    fn forget(&self, used: &Arc<Identity>, error: &AwsError) -> bool {
        let mut known = self.known();
        let is_kept = known.identity.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, used));
        let is_stale = match error {
            AwsError::RejectedKeys(_) => true,
            AwsError::Denied(_) => {
                let now = Instant::now();
                let is_due = known.denied_not_before.is_none_or(|moment| now >= moment);
                let is_stale = is_kept && is_due && used.has_worked.load(Ordering::Relaxed);
                if is_stale {
                    known.denied_not_before = Some(now + DENIED_AGAIN);
                }
                is_stale
            }
            AwsError::ClockDiffers(_)
            | AwsError::Throttled(_)
            | AwsError::TimedOut(_)
            | AwsError::Unavailable(_)
            | AwsError::Nonsense(_)
            | AwsError::InvalidSettings(_) => false,
        };
        if !is_stale {
            return false;
        }
        if !is_kept {
            // Somebody else has dropped it, so there is another one by now.
            return true;
        }
        known.identity = None;
        drop(known);
        used.ends.is_some() || self.refresh_base()
    }

    /// Lets the SDK find the base identity anew. Returns whether that may change anything.
    fn refresh_base(&self) -> bool {
        if self.0.has_own_keys {
            return false;
        }
        let mut known = self.known();
        let fresh = IdentityCache::lazy().build();
        known.base = known.base.to_builder().identity_cache(fresh).build();
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Identity {
    fn of(config: SdkConfig, ends: Option<SystemTime>) -> Self {
        Self { config, ends, has_worked: AtomicBool::new(false) }
    }

    fn ends_within(&self, time: Duration) -> bool {
        let now = self.config.time_source().map(|source| source.now());
        self.ends.zip(now).is_some_and(|(ends, now)| ends <= now + time)
    }
}
