//! A secret that a reload replaces while tasks of the process hold it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Secret;

/// A secret, or none, that whoever connects next reads. Clones are one and the same.
pub struct Renewable<T = Secret>(Arc<ArcSwapOption<T>>);

impl<T> Renewable<T> {
    pub fn new(secret: Option<T>) -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(secret)))
    }

    pub fn current(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    /// From now on all clones have the secret of `newer`, as it is now.
    pub fn renew_from(&self, newer: &Self) {
        self.0.store(newer.current());
    }
}

impl<T> Clone for Renewable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_renewed_together_and_apart_from_what_they_came_from() {
        let text = |of: &Renewable| of.current().map(|secret| secret.expose().to_owned());
        let one = Renewable::new(Some(Secret::new("old".to_owned())));
        let (clone, newer) = (one.clone(), Renewable::new(Some(Secret::new("new".to_owned()))));
        one.renew_from(&newer);
        assert_eq!(text(&clone).as_deref(), Some("new"));
        newer.renew_from(&Renewable::new(None));
        assert_eq!((text(&newer), text(&clone).as_deref()), (None, Some("new")));
    }
}
