//! The time for which a repository that the broker manages belongs to its project: until it is
//! retired.
//!
//! Brokers that share a store have a random word there for each tenure, which a retirement removes.
//! It is a part of the [`CredentialKey`](super::key::CredentialKey), so that no broker finds a
//! credential that was minted before a retirement.
//!
//! **Invariant (I12):** while the store does not answer, a broker goes by what it has heard last. A
//! store that has forgotten a word costs a mint.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::sync::Cache;
use redis::Value;
use ulid::Ulid;

use crate::domain::{Project, RegistryName};
use crate::shared::{Script, Shared, StoreUnavailable, Use};

/// How long the store keeps a word that nobody asks for, in milliseconds.
const KEPT: &str = "86400000";
/// The projects whose tenure a broker remembers, for when the store is away.
const MOST_KNOWN: u64 = 10_000;
/// The retirements of which the store was not told yet. One more is told to this broker only.
const MOST_UNTOLD: usize = 10_000;

/// Keys: the names of the word under each key. Arguments: the word of a tenure that begins now, and
/// how long it is kept.
const ASK: &str = "
for _, name in ipairs(KEYS) do
  local tenure = redis.call('GET', name)
  if tenure then
    redis.call('PEXPIRE', name, ARGV[2])
    return tenure
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]";

/// Keys: the names of the word under each key.
const END: &str = "return redis.call('DEL', unpack(KEYS))";

/// A project of a registry.
pub(super) type Place = (RegistryName, Project);

/// The tenures of all projects.
pub struct Tenures {
    shared: Arc<Shared>,
    /// What the store said last, or what this broker made up while it was away.
    known: Cache<Place, Ulid>,
    untold: Mutex<BTreeSet<Place>>,
}

impl Tenures {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let known = Cache::builder().max_capacity(MOST_KNOWN).build();
        Self { shared: Arc::clone(shared), known, untold: Mutex::default() }
    }

    /// The tenure now.
    pub(super) async fn of(&self, place: &Place) -> Ulid {
        if let Ok(tenure) = self.ask(place).await {
            self.known.insert(place.clone(), tenure);
            return tenure;
        }
        self.known.get_with_by_ref(place, Ulid::generate)
    }

    /// The repository was retired. Returns whether the other brokers know that. If not, they are
    /// told later, if this broker lives ([`end_untold`](Self::end_untold)).
    pub(crate) async fn end(&self, registry: &RegistryName, project: &Project) -> bool {
        let place = (registry.clone(), project.clone());
        self.known.invalidate(&place);
        let is_told = self.tell(&place).await.is_ok();
        let mut untold = self.untold();
        if !is_told && untold.len() < MOST_UNTOLD {
            untold.insert(place);
        }
        is_told
    }

    /// Tells the store what it has missed.
    pub(super) async fn end_untold(&self) -> Result<(), StoreUnavailable> {
        loop {
            let Some(place) = self.untold().first().cloned() else { return Ok(()) };
            self.tell(&place).await?;
        }
    }

    async fn ask(&self, place: &Place) -> Result<Ulid, StoreUnavailable> {
        let is_untold = self.untold().contains(place);
        if is_untold {
            self.tell(place).await?;
        }
        let begins = Ulid::generate().to_string();
        let answer = self.run(ASK, place, &[begins.as_bytes(), KEPT.as_bytes()]).await?;
        tenure(&answer).ok_or_else(|| self.shared.nonsense(Use::Credentials))
    }

    async fn tell(&self, place: &Place) -> Result<(), StoreUnavailable> {
        let Value::Int(0..) = self.run(END, place, &[]).await? else {
            return Err(self.shared.nonsense(Use::Credentials));
        };
        self.untold().remove(place);
        Ok(())
    }

    async fn run(
        &self,
        text: &'static str,
        (registry, project): &Place,
        arguments: &[&[u8]],
    ) -> Result<Value, StoreUnavailable> {
        let parts = [registry.as_str().as_bytes(), project.as_str().as_bytes()];
        let keys = self.shared.names("tenure", &parts);
        self.shared.run(Use::Credentials, Script { text, keys: &keys, arguments }).await
    }

    fn untold(&self) -> MutexGuard<'_, BTreeSet<Place>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None`: no answer to [`ASK`].
fn tenure(answer: &Value) -> Option<Ulid> {
    let Value::BulkString(word) = answer else { return None };
    Ulid::from_string(std::str::from_utf8(word).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_parsed_strictly() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let word = Ulid(7).to_string();
        assert_eq!(tenure(&text(&word)), Some(Ulid(7)));
        for wrong in [text(""), text(&word[1..]), text(&format!("{word}0")), text(&"U".repeat(26))]
        {
            assert_eq!(tenure(&wrong), None, "{wrong:?}");
        }
        for wrong in [Value::Nil, Value::Okay, Value::Int(7)] {
            assert_eq!(tenure(&wrong), None, "{wrong:?}");
        }
    }
}
