//! Which addresses an issuer may have, and which hosts its keys.

use url::Url;

use crate::reachable::is_loopback;

pub(super) fn is_listed(hosts: &[String], url: &Url) -> bool {
    let is_same = |listed: Url| {
        listed.host() == url.host() && listed.port_or_known_default() == url.port_or_known_default()
    };
    url.scheme() == "https" && hosts.iter().filter_map(|host| host_of(host)).any(is_same)
}

/// Https, or http to this machine; without parts that could hold a secret or confuse a reader.
pub(super) fn is_plain(url: &Url) -> bool {
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
    is_safe
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

/// `Url` also accepts `https:host`, `https:\\host`, `https:///host`, `https://@host` and
/// `https://0x7f.1`, and corrects each of them.
pub(super) fn is_as_written(text: &str, url: &Url) -> bool {
    let rest = text.strip_prefix(url.scheme()).and_then(|rest| rest.strip_prefix("://"));
    let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let with_port = format!("{}:{}", url.authority(), url.port_or_known_default().unwrap_or(0));
    let is_same = |other: &str| authority.eq_ignore_ascii_case(other);
    (is_same(url.authority()) || is_same(&with_port))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\')
}

/// The https URL of `host` or `host:port`.
pub(super) fn host_of(text: &str) -> Option<Url> {
    let is_host = !text.is_empty()
        && !text.contains(['/', '?', '#', '@', '\\'])
        && !text.contains(char::is_whitespace);
    Url::parse(&format!("https://{text}")).ok().filter(|_| is_host)
}
