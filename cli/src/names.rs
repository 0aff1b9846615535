//! The broker's grammars of names. Checking them here saves a request for a misspelt name, and a
//! name from a checkout cannot mean anything but a name.

use crate::failure::{Failure, shown};

/// The broker's grammar of projects: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub(crate) fn project(text: &str, origin: &str) -> Result<String, Failure> {
    if is_label(text) {
        return Ok(text.to_owned());
    }
    Err(Failure::Settings(format!(
        "{origin}: {:?} is not a project's name: use 1 to 63 of a-z, 0-9 and -, with no - at \
         either end",
        shown(text)
    )))
}

/// The broker's grammar of registries: that of projects, and `_`.
pub(crate) fn registry(text: &str, origin: &str) -> Result<String, Failure> {
    if is_label(&text.replace('_', "-")) {
        return Ok(text.to_owned());
    }
    Err(Failure::Settings(format!(
        "{origin}: {:?} is not a registry's name: use one that `rise-registry registries` lists",
        shown(text)
    )))
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The registry's host in a client's request, which is `https://HOST:PORT/v2/` or `HOST:PORT`.
pub(crate) fn host(server: &str) -> Option<&str> {
    let rest = server.trim();
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    is_host(host).then_some(host)
}

pub(crate) fn is_host(text: &str) -> bool {
    // A host also becomes the name of a folder, so a leading dot is not allowed.
    (1..=255).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

/// Whether the text consists of characters of an image reference. The broker checks the rest.
pub(crate) fn is_image(text: &str) -> bool {
    (1..=1024).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/@[]+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        let longest = "a".repeat(63);
        for good in ["a", "my-app", "0", longest.as_str()] {
            assert!(project(good, "").is_ok(), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a b", "a\n", "*", longer.as_str()] {
            assert!(project(bad, "").is_err(), "{bad}");
        }
        assert!(registry("eu-west_1", "").is_ok());
        assert!(registry("a b", "").is_err());
    }

    #[test]
    fn a_host_is_found_in_what_clients_say() {
        for (said, expected) in [
            ("r.example.com:5000", Some("r.example.com:5000")),
            ("https://index.docker.io/v1/", Some("index.docker.io")),
            ("r.example.com/team/app", Some("r.example.com")),
            ("[::1]:5000\n", Some("[::1]:5000")),
            ("", None),
            ("https://", None),
            ("a b", None),
            ("..", None),
        ] {
            assert_eq!(host(said), expected, "{said}");
        }
    }
}
