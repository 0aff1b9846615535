//! Names of registries, and labels of host names.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning and ending with a letter or digit"
)]
pub struct InvalidName;

/// Returns whether the text matches `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
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
    fn a_registry_is_named_by_a_label() {
        for right in ["a", "eu-west_1", "0", &"a".repeat(63)] {
            assert!(right.parse::<RegistryName>().is_ok(), "{right:?}");
        }
        for wrong in ["", "-a", "a-", "_a", "A", "a.b", "a/b", "a b", "a\n", &"a".repeat(64)] {
            assert_eq!(wrong.parse::<RegistryName>(), Err(InvalidName), "{wrong:?}");
        }
    }
}
