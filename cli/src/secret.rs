//! Text that must not be seen.
//!
//! **Invariant:** [`Secret`] has no `Debug`, `Display`, `Serialize` or `Clone`. It is wiped when dropped.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every call is a place to look at in review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `text` gives this away.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.len() >= 4 && text.contains(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails to compile if `$type` gets an implementation of `$trait`: the two blanket impls then both apply.
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
        assert!(Secret::new("s3cret".into()).is_in("a s3cret text"));
    }
}
