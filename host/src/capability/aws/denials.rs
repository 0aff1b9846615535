//! Ends sessions of a push role before their time: an inline policy of the role denies everything
//! to each of them (`revocation = "deny-policy"`). AWS has no call that ends a login of ECR.
//!
//! A session is known by its name, `rise-` and the id of its mint, which no other session has. Its
//! entry leaves the policy when no login of it can work any more, which the time in that id tells:
//! nothing else has to be remembered.
//!
//! **Invariant:** the host writes the whole policy, from ids alone. A policy of this name that is
//! not as the broker writes it is left alone.
//! **Invariant:** a session counts as ended after the policy was read back with its entry in it.
//! Several brokers may write the policy of one role, and none has a lock for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::sleep;
use ulid::Ulid;

use super::{Aws, AwsAccess, AwsError};

const POLICY: &str = "rise-broker-revoked";
/// A login of ECR works for twelve hours, whatever becomes of its session. The rest is for clocks.
const WORKS: SignedDuration = SignedDuration::from_hours(14);
/// All inline policies of a role have 10,240 characters together, and an entry has 40. About 2,000
/// are left for the other policies.
const MOST: usize = 200;
/// Before the policy is read back: long enough for another broker to have written what it made of
/// its last look.
const SETTLES: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 5;
/// How often the policy is looked at while this broker has entries in it.
const LOOKS: SignedDuration = SignedDuration::from_mins(10);
/// The same while it has none.
const LOOKS_FOR_OTHERS: SignedDuration = SignedDuration::from_hours(1);

/// The sessions of one role that are denied.
#[derive(Default)]
pub struct SessionDenials {
    /// Those of this process, until none of their logins can work.
    wanted: Mutex<BTreeSet<Ulid>>,
    turn: tokio::sync::Mutex<Turn>,
}

/// What the last look of this process saw. Whoever holds it writes.
#[derive(Default)]
struct Turn {
    seen: BTreeSet<Ulid>,
    next_look: Option<Timestamp>,
}

/// The role of a registry's sessions, and those of them that are denied.
#[derive(Clone)]
pub struct RoleDenials {
    /// The name of the role, without its path.
    pub role: String,
    pub sessions: Arc<SessionDenials>,
}

/// What is done with an inline policy of a role.
#[derive(Clone, Debug)]
pub enum PolicyCall {
    Read,
    Put(String),
    Delete,
}

/// A role, and the client that may change it.
#[derive(Clone, Copy)]
struct DeniedRole<'a> {
    name: &'a str,
    client: &'a dyn Aws,
}

impl AwsAccess {
    /// Ends the session that was opened for this mint.
    pub(crate) async fn deny(&self, mint: Ulid, now: Timestamp) -> Result<(), AwsError> {
        let Some(denials) = &self.denials else {
            let switched_off = "`revocation` of this registry is switched off by now";
            return Err(AwsError::InvalidSettings(switched_off.to_owned()));
        };
        let role = DeniedRole { name: &denials.role, client: &*self.client };
        denials.sessions.deny(role, mint, now).await
    }

    /// Removes what no login needs any more. Does nothing most of the time.
    pub(crate) async fn sweep_denials(&self, now: Timestamp) -> Result<(), AwsError> {
        let Some(denials) = &self.denials else { return Ok(()) };
        let role = DeniedRole { name: &denials.role, client: &*self.client };
        denials.sessions.sweep(role, now).await
    }
}

impl DeniedRole<'_> {
    async fn call(self, call: PolicyCall) -> Result<Option<String>, AwsError> {
        self.client.role_policy(self.name, POLICY, call).await
    }
}

impl SessionDenials {
    /// Returns once the policy of the role has the session.
    async fn deny(
        &self,
        role: DeniedRole<'_>,
        session: Ulid,
        now: Timestamp,
    ) -> Result<(), AwsError> {
        self.wanted().insert(session);
        let mut turn = self.turn.lock().await;
        if turn.seen.contains(&session) {
            // Somebody before has written this one too.
            return Ok(());
        }
        let denied = self.write(role, now, &mut turn).await;
        if !turn.seen.contains(&session) && denied.is_err() {
            self.wanted().remove(&session);
        }
        denied
    }

    /// Removes the entries that no login needs any more, and restores those that another broker has
    /// overwritten. Does nothing most of the time; call it now and then.
    async fn sweep(&self, role: DeniedRole<'_>, now: Timestamp) -> Result<(), AwsError> {
        let mut turn = self.turn.lock().await;
        if turn.next_look.is_some_and(|at| now < at) {
            return Ok(());
        }
        turn.next_look = later(now, LOOKS);
        self.write(role, now, &mut turn).await
    }

    /// Makes the policy what it should be.
    async fn write(
        &self,
        role: DeniedRole<'_>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Result<(), AwsError> {
        for _ in 0..ATTEMPTS {
            let found = read(role).await?;
            turn.seen = working(&found, now);
            let wanted = {
                let mut wanted = self.wanted();
                *wanted = working(&wanted, now);
                wanted.clone()
            };
            let all: BTreeSet<Ulid> = turn.seen.union(&wanted).copied().collect();
            if all == found {
                let pause = if wanted.is_empty() { LOOKS_FOR_OTHERS } else { LOOKS };
                turn.next_look = later(now, pause);
                return Ok(());
            }
            if all.len() > MOST {
                return Err(full(role.name));
            }
            if all.is_empty() {
                role.call(PolicyCall::Delete).await?;
            } else {
                role.call(PolicyCall::Put(document(&all))).await?;
            }
            sleep(SETTLES).await;
        }
        Err(AwsError::Unavailable(format!(
            "the policy {POLICY} of the role {} is not as it was written: another broker writes it \
             too, or AWS has not taken it over yet",
            role.name
        )))
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeSet<Ulid>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions in the policy of the role.
async fn read(role: DeniedRole<'_>) -> Result<BTreeSet<Ulid>, AwsError> {
    let Some(text) = role.call(PolicyCall::Read).await? else {
        return Ok(BTreeSet::new());
    };
    let own = sessions(&text).filter(|sessions| {
        serde_json::from_str::<Value>(&text).is_ok_and(|found| found == policy(sessions))
    });
    own.ok_or_else(|| {
        AwsError::Denied(format!(
            "the policy {POLICY} of the role {} is not as this broker writes it; delete it, or \
             give it another name",
            role.name
        ))
    })
}

fn sessions(text: &str) -> Option<BTreeSet<Ulid>> {
    let document: Value = serde_json::from_str(text).ok()?;
    let entries = document.pointer("/Statement/0/Condition/StringLike/aws:userid")?.as_array()?;
    let id = |entry: &Value| entry.as_str()?.strip_prefix("*:rise-")?.parse().ok();
    entries.iter().map(id).collect()
}

fn document(sessions: &BTreeSet<Ulid>) -> String {
    policy(sessions).to_string()
}

/// The part before the colon is the id of the role that has the policy.
fn policy(sessions: &BTreeSet<Ulid>) -> Value {
    let names: Vec<String> = sessions.iter().map(|id| format!("*:rise-{id}")).collect();
    json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "RiseBrokerRevoked", "Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": { "StringLike": { "aws:userid": names } },
    }] })
}

/// Those of which a login may work.
fn working(sessions: &BTreeSet<Ulid>, now: Timestamp) -> BTreeSet<Ulid> {
    let works = |id: &&Ulid| {
        let minted = i64::try_from(id.timestamp_ms()).ok();
        let minted = minted.and_then(|at| Timestamp::from_millisecond(at).ok());
        minted.is_some_and(|minted| now.duration_since(minted) < WORKS)
    };
    sessions.iter().filter(works).copied().collect()
}

fn full(role: &str) -> AwsError {
    AwsError::Denied(format!(
        "the policy {POLICY} of the role {role} has room for {MOST} sessions, and the logins of \
         all of them may work: wait until some have expired, or deny all older sessions of the \
         role by hand (`AWSRevokeOlderSessions`)"
    ))
}

fn later(now: Timestamp, pause: SignedDuration) -> Option<Timestamp> {
    now.checked_add(pause).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap()
    }

    fn session(hours: i64) -> Ulid {
        let minted = u64::try_from(at(hours).as_millisecond()).unwrap();
        Ulid::from_parts(minted, u128::try_from(hours).unwrap())
    }

    #[test]
    fn a_full_policy_leaves_room_for_others() {
        let all: BTreeSet<Ulid> = (0..i64::try_from(MOST).unwrap()).map(session).collect();
        let text = document(&all);
        assert!(text.len() < 8_300, "{}", text.len());
        assert_eq!(sessions(&text), Some(all));
    }

    #[test]
    fn an_entry_leaves_when_no_login_can_work() {
        let all = BTreeSet::from([session(0), session(10)]);
        assert_eq!(working(&all, at(13)), all);
        assert_eq!(working(&all, at(14)), BTreeSet::from([session(10)]));
        assert_eq!(working(&all, at(24)), BTreeSet::new());
        // A clock that was set back: it may work.
        assert_eq!(working(&all, at(0)), all);
    }

    #[test]
    fn what_others_wrote_is_not_taken_for_ours() {
        for text in [
            "",
            "{}",
            r#"{"Statement":[]}"#,
            r#"{"Statement":[{"Condition":{"StringLike":{"aws:userid":"*:rise-x"}}}]}"#,
            r#"{"Statement":[{"Condition":{"StringLike":{"aws:userid":["*:rise-x"]}}}]}"#,
        ] {
            assert_eq!(sessions(text), None, "{text}");
        }
    }
}
