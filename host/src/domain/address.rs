//! The address that a request comes from, trusted proxies, and networks that count as one client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// The client address for limits and audit records. An IPv4 address in IPv6 form becomes IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

/// The network that counts as one client: an IPv4 address, or an IPv6 /56, because no provider
/// assigns less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

const HOME_NETWORK: u32 = 56;

impl ClientAddress {
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    pub fn ip(self) -> IpAddr {
        self.0
    }

    pub fn network(self) -> ClientNetwork {
        match self.0 {
            IpAddr::V4(_) => ClientNetwork(self.0),
            IpAddr::V6(address) => {
                let kept = u128::MAX << (128 - HOME_NETWORK);
                ClientNetwork(Ipv6Addr::from_bits(address.to_bits() & kept).into())
            }
        }
    }
}

impl std::fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/{HOME_NETWORK}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidTrustedProxies {
    #[error("`{0}` is neither a network such as \"10.0.0.0/8\" nor an address")]
    Text(String),
    #[error(
        "`{0}` is everybody, so each caller could forge its own address; name the networks of your \
         proxies"
    )]
    Everybody(IpNet),
    #[error("`{network}` is a network and an address; write `{trunc}` or `{single}`")]
    Host { network: IpNet, trunc: IpNet, single: IpNet },
}

/// The networks whose `X-Forwarded-For` the broker trusts. There are none by default, because
/// anybody can send that header.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Parses networks such as `10.0.0.0/8`, or single addresses. The error is about the first
    /// invalid text.
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidTrustedProxies> {
        let parse = |text: &'a str| {
            let single = || text.parse::<IpAddr>().map(IpNet::from);
            let network = text.parse::<IpNet>().or_else(|_| single());
            let network = network.map_err(|_| InvalidTrustedProxies::Text(text.to_owned()))?;
            if network.prefix_len() == 0 {
                return Err(InvalidTrustedProxies::Everybody(network));
            }
            if network.trunc() != network {
                let single = IpNet::from(network.addr());
                return Err(InvalidTrustedProxies::Host {
                    network,
                    trunc: network.trunc(),
                    single,
                });
            }
            Ok(network)
        };
        texts.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    pub fn contains(&self, address: ClientAddress) -> bool {
        self.0.iter().any(|network| network.contains(&address.0))
    }

    /// Returns the rightmost address in `forwarded` (the values of `X-Forwarded-For`, in order)
    /// that is not a trusted proxy, or `peer` if `peer` is not trusted. Each proxy appends the
    /// address that it received the request from, so the client can forge everything further left.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> ClientAddress {
        let mut client = ClientAddress::new(peer);
        for hop in forwarded.rev().flat_map(|value| value.rsplit(',')) {
            if !self.contains(client) {
                break;
            }
            let Some(address) = parse_hop(hop.trim()) else { break };
            client = address;
        }
        client
    }
}

/// Some proxies append the port.
fn parse_hop(text: &str) -> Option<ClientAddress> {
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(ClientAddress::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::parse(proxies.iter().copied()).unwrap();
        proxies.client(peer.parse().unwrap(), forwarded.iter().copied()).to_string()
    }

    #[test]
    fn t47_forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let trusted: &[&str] = &["10.0.0.0/8", "192.0.2.1", "fd00::/8"];
        for (proxies, peer, forwarded, expected) in [
            (&[] as &[&str], "10.0.0.1", &["203.0.113.7"] as &[&str], "10.0.0.1"),
            (trusted, "198.51.100.1", &["203.0.113.7"], "198.51.100.1"),
            (trusted, "10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            (trusted, "::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            (trusted, "10.0.0.1", &["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            (trusted, "10.0.0.1", &["1.1.1.1", "203.0.113.7, 10.9.9.9"], "203.0.113.7"),
            (trusted, "10.0.0.1", &["203.0.113.7, 192.0.2.1,10.9.9.9"], "203.0.113.7"),
            (trusted, "10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            (trusted, "10.0.0.1", &["203.0.113.7, nonsense"], "10.0.0.1"),
            (trusted, "10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            (trusted, "fd00::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            (trusted, "10.0.0.1", &[""], "10.0.0.1"),
            (trusted, "10.0.0.1", &[], "10.0.0.1"),
        ] {
            assert_eq!(client(proxies, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
        for (text, part) in [
            ("10.0.0.0/33", "neither a network"),
            ("0.0.0.0/0", "is everybody"),
            ("::/0", "is everybody"),
            ("10.0.0.1/8", "write `10.0.0.0/8` or `10.0.0.1/32`"),
        ] {
            let error = TrustedProxies::parse([text]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_ipv6_client_is_its_56() {
        let network = |text: &str| ClientAddress::new(text.parse().unwrap()).network();
        assert_eq!(network("2001:db8:0:1200::1"), network("2001:db8:0:12ff:ffff::2"));
        assert_ne!(network("2001:db8:0:1200::1"), network("2001:db8:0:1300::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
