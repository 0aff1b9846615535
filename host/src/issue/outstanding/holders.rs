//! The requests that were answered with one credential.
//!
//! **Invariant:** a holder is known by its request and its subject. Nobody gives back what somebody
//! else holds.

use ulid::Ulid;

use crate::domain::SubjectDigest;

/// Those that are known of one credential. The number of all others is not known, so they hold it
/// to its end.
const MOST: usize = 1024;

#[derive(Default)]
pub(super) struct Holders {
    known: Vec<(Ulid, SubjectDigest)>,
    has_others: bool,
}

impl Holders {
    /// Returns whether the request is known from now on.
    pub(super) fn add(&mut self, request: Ulid, owner: SubjectDigest, has_room: bool) -> bool {
        if self.known.contains(&(request, owner)) {
            return true;
        }
        if !has_room || self.known.len() >= MOST {
            self.has_others = true;
            return false;
        }
        self.known.push((request, owner));
        true
    }

    /// Returns whether this request of this subject held it.
    pub(super) fn remove(&mut self, request: Ulid, owner: &SubjectDigest) -> bool {
        let before = self.known.len();
        self.known.retain(|holder| *holder != (request, *owner));
        self.known.len() < before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.has_others
    }

    /// Somebody holds it who is not known.
    pub(super) fn add_unknown(&mut self) {
        self.has_others = true;
    }

    pub(super) fn has_others(&self) -> bool {
        self.has_others
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn has(&self, owner: &SubjectDigest) -> bool {
        self.known.iter().any(|(_, known)| known == owner)
    }

    pub(super) fn all(&self) -> &[(Ulid, SubjectDigest)] {
        &self.known
    }

    /// Whether others hold it too. `None`: this request of this subject does not hold it.
    pub(super) fn has_others_than(&self, request: Ulid, owner: &SubjectDigest) -> Option<bool> {
        let has_others = self.has_others || self.known.len() > 1;
        self.known.contains(&(request, *owner)).then_some(has_others)
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = Ulid> {
        self.known.iter().map(|(request, _)| *request)
    }
}
