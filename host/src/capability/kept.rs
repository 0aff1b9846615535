//! `kept`: logins of a registry that serve several of its calls. A provider finds them again and
//! cannot read them.
//!
//! **Invariant:** what is kept never reaches a caller, because it opens more than one grant
//! (I5): `issue/mint.rs` rejects it by its origin and by its text.
//! **Invariant:** a call learns of what another kept that the name is in use, and nothing else: not
//! the expiry, and no claim.
//! **Invariant:** what a call keeps after an identity token was signed for it, or after it found
//! such a login, is found again only for the same `sub`: one project, and pulling or pushing.
//! Otherwise a login that a cloud gave for one project would serve another, past the cloud's trust
//! policy.
//! **Invariant:** entries belong to one registry in one epoch. They are in memory only, and wiped
//! when they expire, are forgotten, or no generation has that epoch any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{Linker, Resource};

use super::secrets::{SecretHandle, SecretOrigin};
use super::state::HasState;
use super::{CallState, printable};
use crate::capability::wit::rise::registry::kept;
use crate::capability::wit::rise::registry::types::Error;
use crate::domain::Secret;
use crate::rules::Grant;
use crate::signing::IdentityClaims;

/// Entries of one registry. A provider has one login, or one for each of its cloud accounts, or two
/// for each project.
const MOST: usize = 256;
const LONGEST_NAME: usize = 64;
/// The bytes of the shortest login. A shorter text is in many a password by chance, and no password
/// with it in is handed out.
const SHORTEST_LOGIN: usize = 8;
/// Nothing is found that ends sooner: the requests that it is for take time.
const SHORTEST: u64 = 60;
const LONGEST: u64 = 86_400;

/// The logins of one registry in one epoch.
#[derive(Default)]
pub struct Kept(Mutex<BTreeMap<Key, Entry>>);

/// Where an entry is found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The provider's name for it.
    name: String,
    /// The `sub` of the identity tokens that it comes from; `None`: it serves every grant.
    only_for: Option<String>,
}

impl Key {
    fn shared(name: &str) -> Self {
        Self { name: name.to_owned(), only_for: None }
    }

    fn apart(name: &str, grant: &Grant) -> Self {
        Self { name: name.to_owned(), only_for: Some(IdentityClaims::of(grant).subject()) }
    }
}

struct Entry {
    secret: Arc<Secret>,
    expires_at: u64,
}

impl Kept {
    fn entries(&self, now: u64) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.expires_at >= now.saturating_add(SHORTEST));
        entries
    }

    /// When there is no room, the entry that ends first goes.
    fn keep(&self, key: Key, entry: Entry, now: u64) {
        let mut entries = self.entries(now);
        entries.remove(&key);
        if entries.len() >= MOST {
            let first = entries.iter().min_by_key(|(_, entry)| entry.expires_at);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                entries.remove(&first);
            }
        }
        entries.insert(key, entry);
    }

    fn find(&self, key: &Key, now: u64) -> Option<Arc<Secret>> {
        self.entries(now).get(key).map(|entry| Arc::clone(&entry.secret))
    }

    /// Wipes what has expired, which nobody may look for any more.
    pub(crate) fn sweep(&self, now: u64) {
        drop(self.entries(now));
    }

    /// Whether `secret` is kept, or has something that is.
    pub(crate) fn has(&self, secret: &Secret) -> bool {
        self.entries(0).values().any(|entry| entry.secret.is_in(secret.expose()))
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    kept::add_to_linker::<CallState, HasState>(linker, |state| state)
}

impl CallState {
    fn keep_secret(
        &mut self,
        name: &str,
        value: &SecretHandle,
        expires_at: u64,
    ) -> Result<(), Error> {
        let grant = self.begin("kept.keep")?;
        if value.origin != SecretOrigin::Http {
            let from = printable(&value.name, LONGEST_NAME);
            return Err(self.refuse(format!("to keep a secret that comes from {from}")));
        }
        let is_name = (1..=LONGEST_NAME).contains(&name.len());
        if !is_name || name.chars().any(char::is_control) {
            return Err(Error::Failed(format!(
                "the name of a kept secret has 1 to {LONGEST_NAME} bytes and no control characters"
            )));
        }
        let length = value.secret.expose().len();
        if length < SHORTEST_LOGIN {
            return Err(Error::Failed(format!(
                "a text of {length} bytes cannot be kept: a login has {SHORTEST_LOGIN} at least"
            )));
        }
        let ends = value.expires_at.map_or(expires_at, |own| own.min(expires_at));
        let expires_at = ends.min(self.now.saturating_add(LONGEST));
        let entry = Entry { secret: Arc::clone(&value.secret), expires_at };
        let key = if self.keeps_apart { Key::apart(name, &grant) } else { Key::shared(name) };
        self.capabilities.kept.keep(key, entry, self.now);
        Ok(())
    }

    fn find_secret(&mut self, name: &str) -> Result<Option<SecretHandle>, Error> {
        let grant = self.begin("kept.find")?;
        let find = |key: &Key| self.capabilities.kept.find(key, self.now);
        let apart = find(&Key::apart(name, &grant));
        let is_apart = apart.is_some();
        let Some(secret) = apart.or_else(|| find(&Key::shared(name))) else {
            return Ok(None);
        };
        // What comes of it is for the same grants.
        self.keeps_apart |= is_apart;
        // Its expiry would be a word from one call to another.
        let (origin, expires_at) = (SecretOrigin::Kept, None);
        Ok(Some(SecretHandle { secret, origin, name: "kept".into(), expires_at }))
    }

    /// Forgets what this grant finds.
    fn forget_secret(&mut self, name: &str) -> Result<(), Error> {
        let grant = self.begin("kept.forget")?;
        let mut entries = self.capabilities.kept.entries(self.now);
        if entries.remove(&Key::apart(name, &grant)).is_none() {
            entries.remove(&Key::shared(name));
        }
        Ok(())
    }
}

impl kept::Host for CallState {
    fn keep(
        &mut self,
        name: String,
        value: Resource<SecretHandle>,
        expires_at: u64,
    ) -> wasmtime::Result<Result<(), Error>> {
        let value = self.table.get(&value)?.clone();
        Ok(self.keep_secret(&name, &value, expires_at))
    }

    fn find(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Option<Resource<SecretHandle>>, Error>> {
        match self.find_secret(&name) {
            Ok(found) => Ok(Ok(found.map(|handle| self.give(handle)).transpose()?)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn forget(&mut self, name: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.forget_secret(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, expires_at: u64) -> Entry {
        Entry { secret: Arc::new(Secret::new(text.to_owned())), expires_at }
    }

    fn found(kept: &Kept, name: &str, now: u64) -> Option<String> {
        kept.find(&Key::shared(name), now).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn a_login_is_found_until_a_minute_before_its_end() {
        let kept = Kept::default();
        kept.keep(Key::shared("login"), entry("first-login", 1000), 0);
        kept.keep(Key::shared("login"), entry("second-login", 1000), 0);
        assert_eq!(found(&kept, "login", 940).as_deref(), Some("second-login"));
        assert_eq!(found(&kept, "other", 0), None);
        let has = |text: &str| kept.has(&Secret::new(text.to_owned()));
        assert!(has("second-login") && has("Bearer second-login") && !has("first-login"));
        assert_eq!(found(&kept, "login", 941), None);
        assert!(!has("second-login"));
    }

    #[test]
    fn an_expired_login_is_wiped_though_nobody_looks_for_it() {
        let kept = Kept::default();
        let login = Arc::new(Secret::new("first-login".to_owned()));
        let weak = Arc::downgrade(&login);
        kept.keep(Key::shared("login"), Entry { secret: login, expires_at: 1000 }, 0);
        kept.sweep(940);
        assert!(weak.upgrade().is_some());
        kept.sweep(941);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn the_login_that_ends_first_makes_room() {
        let kept = Kept::default();
        for number in 0..=MOST as u64 {
            let ends = 10_000 - number;
            kept.keep(Key::shared(&number.to_string()), entry("some-login", ends), 0);
        }
        assert_eq!(kept.entries(0).len(), MOST);
        assert!(found(&kept, "0", 0).is_some());
        assert!(found(&kept, &(MOST - 1).to_string(), 0).is_none());
        assert!(found(&kept, &MOST.to_string(), 0).is_some());
    }
}
