//! Names of projects and registries.

use std::fmt;
use std::str::FromStr;

/// A project, which credentials are for. It is a DNS label.
///
/// The broker inserts it into ARNs, policies, URLs and host names. The grammar contains none of the
/// characters that have a meaning there (`*`, `?`, `$`, `/`, `:`, quotes), so injection is
/// impossible. Without `/`, the child repositories of `a` can never belong to a project `a/b`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit")]
pub struct InvalidName;

/// Returns whether the text matches `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl FromStr for Project {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_dns_label(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

impl Project {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a configured registry, as in `[registries.prod]`. It is a DNS label that may also
/// contain `_` inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryName(String);

impl FromStr for RegistryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let label = text.replace('_', "-");
        if is_dns_label(&label) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }
}

impl RegistryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_a_dns_label() {
        for right in ["a", "0", "my-app", "a--b", &"a".repeat(63)] {
            assert!(right.parse::<Project>().is_ok(), "{right:?}");
        }
        let wrong = [
            "",
            "-",
            "-a",
            "a-",
            "a_b",
            "a.b",
            "a/b",
            "../x",
            "A",
            "my App",
            "*",
            "?",
            "a*",
            "${aws:username}",
            "a\"b",
            "a\\u0022",
            "a'b",
            "a,b",
            "a:b",
            "a\0",
            "a\n",
            "аpp",
            "ａ",
            "é",
            "a%2fb",
            &"a".repeat(64),
        ];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Project>(), Err(InvalidName), "{wrong:?}");
        }
    }

    proptest::proptest! {
        /// An accepted name contains no syntax of an ARN, a policy, a URL or a path.
        #[test]
        fn no_accepted_name_has_a_metacharacter(text in ".{0,80}") {
            if let Ok(project) = text.parse::<Project>() {
                let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
                proptest::prop_assert!(project.as_str().bytes().all(is_plain));
                proptest::prop_assert!(project.as_str().len() <= 63);
            }
        }
    }
}
