//! Text that must not be seen.
//!
//! **Invariant:** [`Secret`] has no `Debug`, `Display`, `Serialize` or `Clone`: what is written somewhere by accident is
//! written through one of these. It is wiped when dropped.

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

    /// Whether `text` gives this away. A secret of fewer than four characters would be found everywhere.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.len() >= 4 && text.contains(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

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
        assert_eq!(Secret::new("s3cret".into()).expose(), "s3cret");
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
