//! Everything that a rule can allow: the actions of credentials, and what is done with the
//! repository itself.
//!
//! **Invariant:** no right implies another one. `create` and `delete` never become part of a
//! credential: [`Rights::actions`] is the only way to [`Actions`], which cannot have them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Action, Actions};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    Pull,
    Push,
    /// To create the repository, keep its settings right, and take over one that was retired.
    Create,
    /// To retire the repository.
    Delete,
}

/// What a caller asks the broker to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepositoryOperation {
    /// Every right on the project includes it.
    Describe,
    Create,
    Delete,
}

/// A set of rights. The empty set allows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    actions: Actions,
    create: bool,
    delete: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRights {
    #[error("unknown action `{0}`, expected `pull`, `push`, `create` or `delete`")]
    Unknown(String),
    #[error("no action given; omit it to get everything that the rules allow")]
    Empty,
}

impl Right {
    pub const ALL: [Self; 4] = [Self::Pull, Self::Push, Self::Create, Self::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => Action::Pull.as_str(),
            Self::Push => Action::Push.as_str(),
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

impl RepositoryOperation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }

    /// The right that it takes. `None`: any right will do.
    pub fn right(self) -> Option<Right> {
        match self {
            Self::Describe => None,
            Self::Create => Some(Right::Create),
            Self::Delete => Some(Right::Delete),
        }
    }

    pub fn is_within(self, rights: Rights) -> bool {
        self.right().map_or(!rights.is_empty(), |right| rights.contains(right))
    }
}

impl Rights {
    pub const NONE: Self = Self { actions: Actions::NONE, create: false, delete: false };

    /// What of it a credential can have.
    pub fn actions(self) -> Actions {
        self.actions
    }

    pub fn contains(self, right: Right) -> bool {
        match right {
            Right::Pull => self.actions.contains(Action::Pull),
            Right::Push => self.actions.contains(Action::Push),
            Right::Create => self.create,
            Right::Delete => self.delete,
        }
    }

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            actions: self.actions.union(other.actions),
            create: self.create || other.create,
            delete: self.delete || other.delete,
        }
    }

    /// Those that change nothing.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.actions.without(Action::Push).into()
    }

    /// Those that change an image or the repository.
    #[must_use]
    pub fn changes(self) -> Self {
        Self { actions: self.actions.without(Action::Pull), ..self }
    }

    pub fn is_subset_of(self, other: Self) -> bool {
        self.union(other) == other
    }

    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.contains(*right))
    }

    /// Parses names with commas between them.
    pub fn parse(names: &str) -> Result<Self, InvalidRights> {
        let find = |name: &str| {
            let known = Right::ALL.into_iter().find(|right| right.as_str() == name);
            known.ok_or_else(|| InvalidRights::Unknown(name.chars().take(32).collect()))
        };
        if names.is_empty() {
            return Err(InvalidRights::Empty);
        }
        names.split(',').map(find).collect()
    }
}

impl From<Actions> for Rights {
    fn from(actions: Actions) -> Self {
        Self { actions, ..Self::NONE }
    }
}

impl From<Right> for Rights {
    fn from(right: Right) -> Self {
        match right {
            Right::Pull => Actions::PULL.into(),
            Right::Push => Actions::PUSH.into(),
            Right::Create => Self { create: true, ..Self::NONE },
            Right::Delete => Self { delete: true, ..Self::NONE },
        }
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        rights.into_iter().fold(Self::NONE, |all, right| all.union(right.into()))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let names: Vec<&str> = self.iter().map(Right::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

impl Serialize for Rights {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_right_implies_another_one() {
        let operations = [
            (Right::Create, RepositoryOperation::Create),
            (Right::Delete, RepositoryOperation::Delete),
        ];
        for right in Right::ALL {
            let alone = Rights::from(right);
            assert_eq!(alone.iter().collect::<Vec<_>>(), [right]);
            for (needed, operation) in operations {
                assert_eq!(operation.is_within(alone), needed == right, "{right:?}");
            }
            assert!(RepositoryOperation::Describe.is_within(alone), "{right:?}");
            let is_of_credentials = matches!(right, Right::Pull | Right::Push);
            assert_eq!(!alone.actions().is_empty(), is_of_credentials, "{right:?}");
        }
        assert!(!RepositoryOperation::Describe.is_within(Rights::NONE));
    }

    #[test]
    fn names_are_a_closed_list() {
        let all: Rights = Right::ALL.into_iter().collect();
        assert_eq!(Rights::parse("pull,push,create,delete"), Ok(all));
        assert_eq!(
            (all.to_string(), all.read_only().to_string()),
            ("pull, push, create, delete".into(), "pull".into())
        );
        assert_eq!(all.changes().to_string(), "push, create, delete");
        for wrong in ["", "*", "create,", "Create", " delete", "describe"] {
            assert!(Rights::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
