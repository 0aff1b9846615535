//! A scope as clients of registries write it: `repository:team/my-app:pull,push`.

use std::fmt;

use super::{Action, Actions};

/// Longer than every name of a repository with a host, and every list of actions.
const LONGEST: usize = 512;

/// What a client wants of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenScope {
    pub kind: ResourceKind,
    pub name: String,
    /// As they were asked for, each once.
    pub actions: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    Repository,
    /// Anything else, such as `registry` or `repository(plugin)`.
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is `type:name:actions`, such as `repository:team/my-app:pull,push`")]
pub struct InvalidTokenScope;

impl TokenScope {
    /// The actions that rules can grant. `*` stands for all of them.
    pub fn known_actions(&self) -> Actions {
        let is_wanted = |action: &Action| {
            self.actions.iter().any(|wanted| wanted == action.as_str() || wanted == "*")
        };
        let unwanted = Action::ALL.into_iter().filter(|action| !is_wanted(action));
        unwanted.fold(Actions::PULL_AND_PUSH, Actions::without)
    }

    /// Whether it is the list of all repositories, as a registry asks for it.
    pub fn is_catalog(&self) -> bool {
        let is_registry = matches!(&self.kind, ResourceKind::Other(kind) if kind == "registry");
        is_registry && self.name == "catalog" && self.actions == ["*"]
    }

    /// The scope without these actions. `None` if nothing is left.
    #[must_use]
    pub fn beyond(&self, granted: Actions) -> Option<Self> {
        let is_granted = |name: &String| {
            granted.iter().any(|action| action.as_str() == name)
                || (name == "*" && granted == Actions::PULL_AND_PUSH)
        };
        let actions: Vec<_> =
            self.actions.iter().filter(|name| !is_granted(name)).cloned().collect();
        (!actions.is_empty()).then(|| Self { actions, ..self.clone() })
    }
}

/// Read from the right: a name may have a `:`, in front of a port.
impl std::str::FromStr for TokenScope {
    type Err = InvalidTokenScope;

    fn from_str(text: &str) -> Result<Self, InvalidTokenScope> {
        // RFC 6749, 3.3.
        let is_scope = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if text.len() > LONGEST || !text.bytes().all(is_scope) {
            return Err(InvalidTokenScope);
        }
        let (rest, actions) = text.rsplit_once(':').ok_or(InvalidTokenScope)?;
        let (kind, name) = rest.split_once(':').ok_or(InvalidTokenScope)?;
        if kind.is_empty() || name.is_empty() {
            return Err(InvalidTokenScope);
        }
        let kind = match kind {
            "repository" => ResourceKind::Repository,
            other => ResourceKind::Other(other.to_owned()),
        };
        let mut once: Vec<String> = Vec::new();
        for action in actions.split(',').filter(|action| !action.is_empty()) {
            if !once.iter().any(|known| known == action) {
                once.push(action.to_owned());
            }
        }
        Ok(Self { kind, name: name.to_owned(), actions: once })
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            ResourceKind::Repository => "repository",
            ResourceKind::Other(kind) => kind,
        };
        write!(f, "{kind}:{}:{}", self.name, self.actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        for (text, name, known) in [
            ("repository:my-app:pull", "my-app", Actions::PULL),
            ("repository:team/my-app:pull,push", "team/my-app", Actions::PULL_AND_PUSH),
            ("repository:team/my-app:push,pull,pull", "team/my-app", Actions::PULL_AND_PUSH),
            (
                "repository:r.example.com:5000/my-app:pull",
                "r.example.com:5000/my-app",
                Actions::PULL,
            ),
            ("repository:my-app:*", "my-app", Actions::PULL_AND_PUSH),
            ("repository:my-app:delete", "my-app", Actions::NONE),
            ("repository:my-app:", "my-app", Actions::NONE),
            ("registry:catalog:*", "catalog", Actions::PULL_AND_PUSH),
        ] {
            let scope: TokenScope = text.parse().unwrap();
            assert_eq!((scope.name.as_str(), scope.known_actions()), (name, known), "{text}");
        }
        for wrong in ["", "my-app", "repository:my-app", "::", ":a:pull", "repository::pull"] {
            assert_eq!(wrong.parse::<TokenScope>(), Err(InvalidTokenScope), "{wrong}");
        }
        for wrong in ["repository:a b:pull", "repository:a\"b:pull", "repository:\u{e9}:pull"] {
            assert_eq!(wrong.parse::<TokenScope>(), Err(InvalidTokenScope), "{wrong}");
        }
        let long = format!("repository:{}:pull", "a".repeat(LONGEST));
        assert_eq!(long.parse::<TokenScope>(), Err(InvalidTokenScope));
    }

    #[test]
    fn what_is_not_granted_is_left() {
        let beyond = |text: &str, granted| {
            let scope: TokenScope = text.parse().unwrap();
            scope.beyond(granted).map(|scope| scope.to_string())
        };
        let left = |text: &str| Some(text.to_owned());
        let both = "repository:a:pull,push";
        assert_eq!(beyond(both, Actions::PULL_AND_PUSH), None);
        assert_eq!(beyond(both, Actions::PULL), left("repository:a:push"));
        assert_eq!(beyond(both, Actions::NONE), left(both));
        assert_eq!(beyond("repository:a:*", Actions::PULL), left("repository:a:*"));
        assert_eq!(beyond("repository:a:*", Actions::PULL_AND_PUSH), None);
        assert_eq!(beyond("repository:a:pull,delete", Actions::PULL), left("repository:a:delete"));
    }

    proptest! {
        #[test]
        fn a_scope_that_is_read_is_written_the_same(text in "[ -~]{0,40}") {
            if let Ok(scope) = text.parse::<TokenScope>() {
                let again: TokenScope = scope.to_string().parse().unwrap();
                prop_assert_eq!(&again, &scope);
                prop_assert!(scope.beyond(Actions::NONE).is_none_or(|left| left == scope));
            }
        }
    }
}
