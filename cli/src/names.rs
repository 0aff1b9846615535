//! The broker's grammars of names. Checking them here saves a request for a misspelt name, and a
//! name from a checkout cannot mean anything but a name.

use crate::failure::{Failure, shown};

/// The broker's grammar of projects: components of an OCI repository's name, joined by `/`. The
/// broker decides how many components a project has.
pub(crate) fn project(text: &str, origin: &str) -> Result<String, Failure> {
    let is_project =
        |text: &str| (1..=128).contains(&text.len()) && text.split('/').all(is_component);
    if is_project(text) {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let remedy = if is_project(&lower) {
        format!("projects have no upper-case letters: use {lower}")
    } else {
        "use at most 128 of a-z, 0-9, and between them single . _ / or any number of -".to_owned()
    };
    Err(Failure::Settings(format!("{origin}: {:?} is not a project's name: {remedy}", shown(text))))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [text.bytes().next(), text.bytes().last()];
    edges.into_iter().all(|edge| edge.is_some_and(alphanumeric))
        && text.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|bad| text.contains(bad))
}

/// The broker's grammar of registries: `[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?`.
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

/// The names of Docker Hub's registry.
const HUB: &[&str] = &["docker.io", "index.docker.io", "registry-1.docker.io"];
/// Another host with the same repositories. Clients keep logins for it apart.
const HUB_ALIAS: &str = "registry.hub.docker.com";

/// Whether two hosts are names of the same registry.
pub(crate) fn is_same_registry(one: &str, other: &str) -> bool {
    let serves_hub = |host: &str| is_hub(host) || host.eq_ignore_ascii_case(HUB_ALIAS);
    one.eq_ignore_ascii_case(other) || (serves_hub(one) && serves_hub(other))
}

/// Whether an entry of a client's file is about the host. Docker Hub has keys of several forms.
pub(crate) fn is_key_of(key: &str, host: &str) -> bool {
    key == host || (is_hub(host) && self::host(key).is_some_and(is_hub))
}

/// The key of a registry in docker's own files, and the name that docker tells a helper. Docker Hub
/// keeps the URL of its first API.
pub(crate) fn docker_key(host: &str) -> &str {
    if is_hub(host) { "https://index.docker.io/v1/" } else { host }
}

/// Whether the host is a private registry of Amazon ECR. Each partition has a domain of its own.
pub(crate) fn is_ecr(host: &str) -> bool {
    let Some((account, rest)) = host.split_once('.') else { return false };
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    is_account && (rest.starts_with("dkr.ecr") || rest.starts_with("dkr-ecr"))
}

/// The host that serves a registry's API.
pub(crate) fn api_host(host: &str) -> &str {
    if is_hub(host) { "registry-1.docker.io" } else { host }
}

fn is_hub(host: &str) -> bool {
    HUB.iter().any(|name| host.eq_ignore_ascii_case(name))
}

pub(crate) fn is_host(text: &str) -> bool {
    // A host also becomes the name of a folder and an argument: no `.` and no `-` in front.
    (1..=255).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

/// Whether the text consists of characters of an image reference. The broker checks the rest.
pub(crate) fn is_image(text: &str) -> bool {
    // One that starts with `-` would be an option of the command that it is put into.
    (1..=1024).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/@[]+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        let longest = "a".repeat(128);
        for good in
            ["a", "my-app", "0", "a.b", "a_b", "a__b", "a--b", "team/my.app", longest.as_str()]
        {
            assert!(project(good, "").is_ok(), "{good}");
        }
        let longer = "a".repeat(129);
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a..b",
            "a/../b",
            "a//b",
            "a/",
            "/a",
            "..",
            "a___b",
            "a%2fb",
            "a b",
            "a\n",
            "*",
            longer.as_str(),
        ] {
            assert!(project(bad, "").is_err(), "{bad}");
        }
        let Err(Failure::Settings(message)) = project("Acme/My-App", "--project") else {
            panic!("accepted")
        };
        assert!(message.ends_with("use acme/my-app"), "{message}");
        assert!(registry("eu-west_1", "").is_ok());
        assert!(registry("a b", "").is_err());
    }

    #[test]
    fn an_image_is_never_an_option() {
        assert!(is_image("r.example.com:5000/rise/my-app:1@sha256:00"));
        for bad in ["", "--privileged/my-app", "-v", "a b", "a\n"] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn ecr_is_known_in_each_partition() {
        for host in [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
            "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
            "123456789012.dkr-ecr-fips.us-east-1.on.aws",
        ] {
            assert!(is_ecr(host), "{host}");
        }
        for other in ["public.ecr.aws", "dkr.ecr.example.com", "1234.dkr.ecr.x.amazonaws.com"] {
            assert!(!is_ecr(other), "{other}");
        }
    }

    #[test]
    fn docker_hub_has_several_names() {
        assert!(is_same_registry(HUB_ALIAS, "docker.io"));
        assert!(!is_key_of(HUB_ALIAS, "docker.io"), "docker would not match it");
        for name in HUB.iter().copied().chain(["Docker.IO"]) {
            assert!(is_same_registry(name, "docker.io"), "{name}");
            assert_eq!(docker_key(name), "https://index.docker.io/v1/");
        }
        for key in [
            "docker.io",
            "https://index.docker.io/v1/",
            "index.docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            assert!(is_key_of(key, "docker.io"), "{key}");
        }
        for other in ["docker.io.example.com", "mydocker.io", "r.example.com"] {
            assert!(!is_same_registry(other, "docker.io") && !is_key_of(other, "docker.io"));
            assert_eq!((docker_key(other), api_host(other)), (other, other));
        }
        assert!(!is_key_of("https://r.example.com", "r.example.com"), "docker would not match it");
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
            ("--privileged", None),
        ] {
            assert_eq!(host(said), expected, "{said}");
        }
    }
}
