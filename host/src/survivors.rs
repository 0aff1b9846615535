//! Values that outlive a generation and are found again by what they were made from.
//!
//! A reload builds a new generation, but connections, counts of limits, fetched keys and used
//! tokens must not start anew with it. The process holds one [`Survivors`] for each kind of them.
//!
//! **Invariant:** the list holds no value that no generation uses: it has weak references only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The values of one kind that some generation uses. `K` is everything that a value depends on.
pub(crate) struct Survivors<K, V: ?Sized>(Mutex<Vec<(K, Weak<V>)>>);

impl<K, V: ?Sized> Default for Survivors<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, V: ?Sized> Survivors<K, V> {
    /// The value that was made from `key`, if a generation still uses it.
    pub(crate) fn find(&self, key: &K) -> Option<Arc<V>> {
        find(&self.living(), key)
    }

    /// Remembers `value` for as long as somebody else holds it.
    pub(crate) fn remember(&self, key: K, value: &Arc<V>) {
        self.living().push((key, Arc::downgrade(value)));
    }

    fn living(&self) -> MutexGuard<'_, Vec<(K, Weak<V>)>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(_, value)| value.strong_count() > 0);
        entries
    }
}

impl<K: PartialEq, V> Survivors<K, V> {
    /// The value that was made from `key`, made now if no generation uses one.
    pub(crate) fn find_or_make(&self, key: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
        let mut entries = self.living();
        if let Some(value) = find(&entries, &key) {
            return value;
        }
        let value = Arc::new(make(&key));
        entries.push((key, Arc::downgrade(&value)));
        value
    }
}

fn find<K: PartialEq, V: ?Sized>(entries: &[(K, Weak<V>)], key: &K) -> Option<Arc<V>> {
    entries.iter().find(|(made_from, _)| made_from == key)?.1.upgrade()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_as_long_as_somebody_holds_it() {
        let survivors = Survivors::<&str, u32>::default();
        let first = survivors.find_or_make("a", |_| 1);
        assert_eq!(*survivors.find_or_make("a", |_| 2), 1);
        assert!(survivors.find(&"b").is_none());
        drop(first);
        assert!(survivors.find(&"a").is_none());
        assert_eq!(*survivors.find_or_make("a", |_| 3), 3);
    }

    #[test]
    fn values_of_no_size_known_are_remembered_too() {
        let survivors = Survivors::<u8, dyn Fn() -> u8 + Send + Sync>::default();
        let value: Arc<dyn Fn() -> u8 + Send + Sync> = Arc::new(|| 7);
        survivors.remember(1, &value);
        assert_eq!(survivors.find(&1).unwrap()(), 7);
    }
}
