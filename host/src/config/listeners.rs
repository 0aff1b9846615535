//! Who can reach the two listeners, and whether that is safe.

use std::net::{IpAddr, SocketAddr};

use super::Written;
use super::file::ServerFile;
use super::node::Problem;

/// Problems, and warnings about settings that are valid but probably not intended.
pub(super) fn check(
    server: &ServerFile,
    written: &Written,
    problems: &mut Vec<Problem>,
) -> Vec<Problem> {
    let (listen, admin) = (server.listen, server.admin_listen);
    if collide(listen, admin) {
        let message = format!("{admin} is also `listen`; give the two listeners different ports");
        problems.push(written.problem("/server/admin_listen", message));
    }
    let mut warnings = Vec::new();
    // It has no authentication, so the network inside is as bad.
    if !admin.ip().to_canonical().is_loopback() && !server.admin_open {
        let message = format!(
            "{admin} can be reached from other machines, and this listener has no authentication; \
             listen on 127.0.0.1, or set `admin_open = true` in [server] where a firewall or a \
             network policy keeps callers away"
        );
        warnings.push(written.problem("/server/admin_listen", message));
    }
    if is_open(listen.ip()) && server.tls.is_none() && server.trusted_proxies.is_empty() {
        let message = format!(
            "{listen} can be reached from other machines without TLS, so tokens and credentials \
             pass the network unencrypted; set [server.tls], or, where a proxy terminates TLS, \
             name it in `trusted_proxies`"
        );
        warnings.push(written.problem("/server/listen", message));
    }
    warnings
}

/// Whether strangers may reach the address: all addresses of this machine, or a public one.
fn is_open(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback() || address.is_private() || address.is_link_local())
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_open(address.into()),
            None => {
                !(address.is_loopback()
                    || address.is_unique_local()
                    || address.is_unicast_link_local())
            }
        },
    }
}

/// Port 0 is a different one for each listener.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let is_all = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || is_all(one) || is_all(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_and_all_addresses_are_open() {
        for (address, expected) in [
            ("0.0.0.0", true),
            ("::", true),
            ("203.0.113.7", true),
            ("2001:db8::1", true),
            ("::ffff:0.0.0.0", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("192.168.1.2", false),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_open(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn listeners_collide_on_one_port_of_one_address() {
        for (one, other, expected) in [
            ("127.0.0.1:3000", "127.0.0.1:3000", true),
            ("0.0.0.0:3000", "127.0.0.1:3000", true),
            ("127.0.0.1:3000", "[::]:3000", true),
            ("127.0.0.1:3000", "127.0.0.1:3001", false),
            ("127.0.0.1:3000", "127.0.0.2:3000", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(collide(one.parse().unwrap(), other.parse().unwrap()), expected, "{one}");
        }
    }
}
