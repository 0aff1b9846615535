//! Text that must not be seen. The broker and its clients share this type.
//!
//! **Invariant:** [`Secret`] has no `Debug`, `Display`, `Serialize` or `Clone`: every accidental
//! way to write a value somewhere goes through one of these. A secret is wiped when it is dropped.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret shorter than this many bytes would be found in ordinary text.
const SHORTEST_FOUND: usize = 4;

pub struct Secret(Zeroizing<String>);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Review every call.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `text` contains the secret. Secrets of fewer than four bytes are never found.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.0.len() >= SHORTEST_FOUND && text.contains(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Fails to compile if `$type` implements `$trait`: both blanket implementations then apply.
    macro_rules! assert_not_impl {
        ($type:ty: $($trait:path),+) => {$({
            trait Ambiguous<A> { fn check() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Implemented;
            impl<T: ?Sized + $trait> Ambiguous<Implemented> for T {}
            <$type as Ambiguous<_>>::check();
        })+};
    }

    #[test]
    fn a_secret_cannot_be_printed_or_copied() {
        assert_not_impl!(Secret: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone);
        assert_eq!(Secret::new("s3cret".into()).expose(), "s3cret");
        assert!(Secret::new("s3cret".into()).is_in("a s3cret text"));
    }

    #[test]
    fn a_dropped_secret_is_not_in_memory_any_more() {
        let text = "canary-in-memory-".repeat(64);
        let secret = Secret::new(text.clone());
        let place = secret.expose().as_ptr().addr() as u64;
        let at_place = || {
            let mut bytes = vec![0; text.len()];
            File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, place).unwrap();
            bytes
        };
        assert_eq!(at_place(), text.as_bytes());
        drop(secret);
        // The allocator may have written into it since.
        assert!(!String::from_utf8_lossy(&at_place()).contains("canary"));
    }
}
