//! A minted credential, and for how long it may be handed out again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use crate::domain::{AwsSession, Credential, Credentials, Lifetime};
use crate::registries::Registry;

/// Nothing is handed out with less left: no client could use it.
const SHORTEST: i64 = 60;
/// How long an answer without an end is handed out again, in seconds. Nothing says how long it is
/// right, so it is asked for again often.
const ENDLESS: i64 = 60;
/// Of an entry beside its texts: the key, the names in it, the places of all of them in maps.
const OVERHEAD: usize = 1024;

pub(super) struct Minted {
    pub(super) credentials: Arc<Credentials>,
    /// The request that it was minted for.
    pub(super) by: Ulid,
    pub(super) at: Timestamp,
    /// The lifetime that its provider was asked for.
    pub(super) lifetime: Lifetime,
    /// How long the provider call took.
    pub(super) took: Duration,
    /// Whether this broker minted it, so that its own list has it if it can be ended.
    pub(super) is_ours: bool,
}

/// The use of a kept credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// More than half of its life is left.
    Fresh,
    /// More than a quarter: it is handed out, and another one is made meanwhile.
    Renewing,
    /// Less: callers wait for another one and get this one only if there is none.
    Late,
    /// It ends too soon for anybody, or for this request.
    Unusable,
}

impl Minted {
    /// Its use at `now`, for a request with this lifetime.
    pub(super) fn reuse(&self, wanted: Lifetime, now: Timestamp) -> Reuse {
        let Some(end) = self.credentials.expires_at else {
            let is_young = (0..ENDLESS).contains(&between(self.at, now));
            return if is_young { Reuse::Fresh } else { Reuse::Unusable };
        };
        let (life, left) = (between(self.at, end), between(now, end));
        if left < SHORTEST || !self.is_long_enough(wanted, life, left) {
            Reuse::Unusable
        } else if left.saturating_mul(2) > life {
            Reuse::Fresh
        } else if left.saturating_mul(4) > life {
            Reuse::Renewing
        } else {
            Reuse::Late
        }
    }

    fn is_long_enough(&self, wanted: Lifetime, life: i64, left: i64) -> bool {
        let needed = i64::from(wanted.seconds());
        if self.lifetime.seconds() < wanted.seconds() {
            // The registry might give more to a request that asks for more.
            return left >= needed;
        }
        // The registry was asked for as much and gave less, so it would again.
        !wanted.is_stated() || left >= needed || life < needed
    }

    /// From when on a caller should ask again: half of its life. `None` if it does not end.
    pub(super) fn refresh_after(&self) -> Option<Timestamp> {
        let life = between(self.at, self.credentials.expires_at?);
        Timestamp::from_second(self.at.as_second() + life / 2).ok()
    }

    /// How long it is of use to anybody, counted from its mint.
    pub(super) fn useful(&self) -> Duration {
        let life = self.credentials.expires_at.map(|end| between(self.at, end) - SHORTEST);
        Duration::from_secs(u64::try_from(life.unwrap_or(ENDLESS)).unwrap_or(0))
    }

    /// Whether it can be given back.
    pub(super) fn is_noted(&self) -> bool {
        self.credentials.note.is_some()
    }

    /// Whether somebody can end it: its caller, or an operator alone.
    pub(super) fn is_endable(&self, registry: &Registry) -> bool {
        let is_session = self.credentials.session.is_some();
        self.is_noted() || is_session && registry.denials().is_some()
    }

    /// In seconds.
    pub(super) fn age(&self, now: Timestamp) -> u32 {
        u32::try_from(between(self.at, now)).unwrap_or(0)
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let Credentials { location, credential, session, note, .. } = &*self.credentials;
        let username = match credential {
            Credential::Basic { username, .. } => username.len(),
            Credential::ClientAuth | Credential::Bearer(_) | Credential::Refresh(_) => 0,
        };
        let secret = credential.secret().map_or(0, |secret| secret.expose().len());
        let session = session.as_ref().map_or(0, |session| {
            let subject = session.web_identity.as_ref().map_or(0, String::len);
            let AwsSession { session_name, role_arn, access_key_id, .. } = session;
            session_name.len() + role_arn.len() + access_key_id.len() + subject
        });
        let note = note.as_ref().map_or(0, String::len);
        OVERHEAD + username + secret + session + note + location.repository.len()
    }
}

/// In seconds; negative if `to` is earlier.
fn between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Actions, EndedBy, EnforcedBy, Location, Scope};

    const NOW: i64 = 1_790_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn minted(lifetime: Lifetime, life: Option<i64>) -> Minted {
        let credentials = Credentials {
            project: "my-app".parse().unwrap(),
            registry: "prod".parse().unwrap(),
            actions: Actions::PULL,
            location: Location {
                host: "registry.example.com".parse().unwrap(),
                repository: "my-app".to_owned(),
            },
            credential: Credential::ClientAuth,
            expires_at: life.map(at),
            ended_by: EndedBy::Registry,
            note: None,
            scope: Scope::None,
            enforced_by: EnforcedBy::Host,
            session: None,
        };
        let by = Ulid::nil();
        let took = Duration::ZERO;
        let credentials = Arc::new(credentials);
        Minted { credentials, by, at: at(0), lifetime, took, is_ours: true }
    }

    #[test]
    fn a_credential_is_reused_by_what_is_left_of_its_life() {
        let any = Lifetime::default();
        let hour = minted(any, Some(3600));
        for (age, expected) in [
            (-60, Reuse::Fresh),
            (0, Reuse::Fresh),
            (1799, Reuse::Fresh),
            (1800, Reuse::Renewing),
            (2699, Reuse::Renewing),
            (2700, Reuse::Late),
            (3540, Reuse::Late),
            (3541, Reuse::Unusable),
            (9999, Reuse::Unusable),
        ] {
            assert_eq!(hour.reuse(any, at(age)), expected, "{age}");
        }
        assert_eq!(hour.refresh_after(), Some(at(1800)));
        assert_eq!(hour.useful(), Duration::from_mins(59));
        let endless = minted(any, None);
        for (age, expected) in
            [(0, Reuse::Fresh), (59, Reuse::Fresh), (60, Reuse::Unusable), (-1, Reuse::Unusable)]
        {
            assert_eq!(endless.reuse(any, at(age)), expected, "{age}");
        }
        assert_eq!(endless.refresh_after(), None);
    }

    #[test]
    fn a_stated_lifetime_is_kept_where_the_registry_can() {
        let stated = |seconds: u32| Lifetime::try_from(seconds).unwrap();
        let any = Lifetime::default();
        for (asked, life, age, wanted, expected) in [
            // The registry gives what it is asked for.
            (stated(600), 600, 0, stated(600), Reuse::Fresh),
            (stated(600), 600, 1, stated(600), Reuse::Unusable),
            (stated(600), 600, 299, stated(300), Reuse::Fresh),
            (stated(600), 600, 0, stated(601), Reuse::Unusable),
            // A request that states nothing gets no credential of one that asked for less.
            (stated(600), 600, 0, any, Reuse::Unusable),
            (any, 3600, 1700, any, Reuse::Fresh),
            (stated(7200), 7200, 3000, any, Reuse::Fresh),
            // The registry gives twelve hours, whatever it is asked for.
            (stated(600), 43_200, 20_000, stated(3600), Reuse::Fresh),
            (any, 43_200, 20_000, stated(43_200), Reuse::Unusable),
            // The registry gives less than it was asked for, and would again.
            (stated(43_200), 900, 100, stated(43_200), Reuse::Fresh),
            (stated(43_200), 900, 500, stated(7200), Reuse::Renewing),
            (any, 900, 100, stated(7200), Reuse::Unusable),
        ] {
            let reuse = minted(asked, Some(life)).reuse(wanted, at(age));
            assert_eq!(reuse, expected, "{asked:?} {life} {age} {wanted:?}");
        }
    }
}
