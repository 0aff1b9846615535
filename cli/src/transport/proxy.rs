//! `HTTPS_PROXY` and `NO_PROXY`. A name in `NO_PROXY` matches itself and all names below it, an
//! address itself, and a network (`10.0.0.0/8`) all its addresses.

use std::net::IpAddr;

use ureq::Proxy;

use crate::environment::Environment;
use crate::failure::Failure;

/// The proxy for `host`. Its URL may contain a password and is never printed.
pub(super) fn of(environment: &Environment, host: &str) -> Result<Option<Proxy>, Failure> {
    let either = |upper, lower| environment.text(upper).or_else(|| environment.text(lower));
    let Some(url) = either("HTTPS_PROXY", "https_proxy") else { return Ok(None) };
    if either("NO_PROXY", "no_proxy").is_some_and(|list| excepts(list, host)) {
        return Ok(None);
    }
    let wrong = || {
        Failure::Settings(
            "HTTPS_PROXY: is not the URL of a proxy; write it as http://HOST:PORT".to_owned(),
        )
    };
    let proxy = Proxy::new(url.trim()).map_err(|_| wrong())?;
    if url.trim().starts_with("socks") { Err(wrong()) } else { Ok(Some(proxy)) }
}

fn excepts(list: &str, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        let name = match entry.rsplit_once(':') {
            // The last group of an IPv6 address is not a port.
            Some((name, port))
                if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                name
            }
            _ => entry,
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return entry == "*" || is_in(address, name) || is_in(address, entry);
        }
        let below = || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        name == "*" || (!name.is_empty() && (host == name || below()))
    })
}

/// Whether an address or a network in the notation of CIDR contains the address.
fn is_in(address: IpAddr, network: &str) -> bool {
    let (network, prefix) = match network.split_once('/') {
        Some((network, prefix)) => (network, prefix.parse::<u32>().ok()),
        None => (network, Some(128)),
    };
    let network = network.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let (one, other, width) = match (address, network) {
        (IpAddr::V4(one), Ok(IpAddr::V4(other))) => {
            (u128::from(one.to_bits()), u128::from(other.to_bits()), 32)
        }
        (IpAddr::V6(one), Ok(IpAddr::V6(other))) => (one.to_bits(), other.to_bits(), 128),
        _ => return false,
    };
    let host_bits = prefix.map(|prefix| width - prefix.min(width));
    host_bits.is_some_and(|bits| (one ^ other).checked_shr(bits).unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        for (list, host, expected) in [
            ("*", "broker.example.com", true),
            ("other, broker.example.com", "broker.example.com", true),
            ("example.com", "broker.example.com", true),
            (".example.com", "broker.example.com", true),
            ("*.EXAMPLE.com:8443", "broker.example.com", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1:8443", "10.0.0.1", true),
            ("fd00::1", "[fd00::1]", true),
            ("[fd00::1]", "[fd00::1]", true),
            ("fd00:0:0::1", "[fd00::1]", true),
            ("10.0.0.0/8,.svc", "10.77.0.1", true),
            ("10.77.0.0/16", "10.78.0.1", false),
            ("0.0.0.0/0", "10.77.0.1", true),
            ("fd00::/8", "[fd12::77]", true),
            ("fd00::/64", "[fd00:0:0:1::77]", false),
            ("10.0.0.0/x", "10.0.0.1", false),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/8", "broker.example.com", false),
            ("ample.com", "broker.example.com", false),
            ("broker.example.com.evil", "broker.example.com", false),
            (",", "broker.example.com", false),
            ("", "broker.example.com", false),
        ] {
            assert_eq!(excepts(list, host), expected, "{list} {host}");
        }
    }

    #[test]
    fn a_proxy_is_used_where_it_is_named() {
        let of = |pairs: &[(&str, &str)]| {
            of(&Environment::of(pairs, std::path::Path::new("/")), "broker.example.com")
        };
        assert!(of(&[]).unwrap().is_none());
        let proxy = of(&[("HTTPS_PROXY", "http://user:s3cret@proxy:3128")]).unwrap().unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("proxy", 3128));
        let both = [("https_proxy", "http://proxy:3128"), ("no_proxy", "example.com")];
        assert!(of(&both).unwrap().is_none());
        let failure = of(&[("HTTPS_PROXY", "socks5://user:s3cret@proxy")]).unwrap_err();
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
}
