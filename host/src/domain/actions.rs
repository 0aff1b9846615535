//! The actions that a credential allows.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Pull,
    Push,
}

impl Action {
    pub const ALL: [Self; 2] = [Self::Pull, Self::Push];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// A set of actions. The empty set allows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions {
    pull: bool,
    push: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidActions {
    #[error("unknown action `{0}`, expected `pull` or `push`")]
    Unknown(String),
    #[error(
        "no action given, expected `pull`, `push` or both; omit `actions` to get everything \
         that you may do"
    )]
    Empty,
}

impl Actions {
    pub const NONE: Self = Self { pull: false, push: false };
    pub const PULL: Self = Self { pull: true, push: false };
    pub const PUSH: Self = Self { pull: false, push: true };
    pub const PULL_AND_PUSH: Self = Self { pull: true, push: true };

    pub fn contains(self, action: Action) -> bool {
        match action {
            Action::Pull => self.pull,
            Action::Push => self.push,
        }
    }

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { pull: self.pull || other.pull, push: self.push || other.push }
    }

    #[must_use]
    pub fn without(self, action: Action) -> Self {
        match action {
            Action::Pull => Self { pull: false, ..self },
            Action::Push => Self { push: false, ..self },
        }
    }

    pub fn is_subset_of(self, other: Self) -> bool {
        self.union(other) == other
    }

    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }

    /// Parses names from a caller. Each entry may be a comma-separated list.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidActions> {
        let mut actions = Self::NONE;
        for name in names.into_iter().flat_map(|list| list.split(',')) {
            match name {
                "pull" => actions.pull = true,
                "push" => actions.push = true,
                // The text goes back to the caller, so it is cut.
                other => return Err(InvalidActions::Unknown(other.chars().take(32).collect())),
            }
        }
        if actions.is_empty() { Err(InvalidActions::Empty) } else { Ok(actions) }
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        actions.into_iter().fold(Self::NONE, |set, action| match action {
            Action::Pull => set.union(Self::PULL),
            Action::Push => set.union(Self::PUSH),
        })
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.pull, self.push) {
            (false, false) => "nothing",
            (true, false) => "pull",
            (false, true) => "push",
            (true, true) => "pull, push",
        })
    }
}

impl Serialize for Actions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_closed_list() {
        assert_eq!(Actions::parse(["pull,push"]), Ok(Actions::PULL_AND_PUSH));
        assert_eq!(Actions::parse(["push", "push"]), Ok(Actions::PUSH));
        for wrong in ["", "*", "pull,*", "pull,", "Pull", " pull", "delete", "pull;push"] {
            assert!(Actions::parse([wrong]).is_err(), "{wrong:?}");
        }
        assert_eq!(Actions::parse([]), Err(InvalidActions::Empty));
    }
}
