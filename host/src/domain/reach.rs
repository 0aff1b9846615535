//! The network addresses that the broker may connect to.
//!
//! The check applies to the resolved IP address, never to a name, because a name can resolve to
//! another address a moment later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The set of addresses that a connection may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only public addresses.
    Public,
    /// Public, private and loopback addresses. Link-local and other metadata addresses are never
    /// allowed, because the services there return the credentials of the machine.
    Internal,
    /// Only private and loopback addresses, for connections without encryption.
    Private,
    /// Only loopback addresses.
    Loopback,
}

/// Metadata services outside the link-local range, beside the range of AWS: of Alibaba, Azure (a
/// public address), Google, Oracle, Alibaba again, Akamai and Scaleway.
const METADATA: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0100, 0, 0, 0, 0, 0x0100, 0x0200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 0x0001)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressKind {
    Public,
    Private,
    Loopback,
    /// Link-local, metadata, multicast, reserved, documentation.
    Never,
}

impl Reach {
    /// Why a connection may not use the address, as the end of "is at …"; `None` if it may.
    /// `setting` is the one that allows private addresses.
    pub fn refusal(self, address: IpAddr, setting: &str) -> Option<String> {
        if self.permits(address) {
            return None;
        }
        Some(match kind(address) {
            AddressKind::Never => format!(
                "{address}, a link-local, metadata or reserved address: the broker never connects \
                 to these, whatever `{setting}` says"
            ),
            AddressKind::Private | AddressKind::Loopback => {
                format!("{address}, a private address: set `{setting} = true` if that is intended")
            }
            AddressKind::Public => {
                format!("{address}, a public address, where a private one is needed")
            }
        })
    }

    pub fn permits(self, address: IpAddr) -> bool {
        match (self, kind(address)) {
            (_, AddressKind::Never)
            | (Self::Public, AddressKind::Private | AddressKind::Loopback)
            | (Self::Private, AddressKind::Public)
            | (Self::Loopback, AddressKind::Public | AddressKind::Private) => false,
            (Self::Public | Self::Internal, AddressKind::Public)
            | (Self::Internal | Self::Private, AddressKind::Private | AddressKind::Loopback)
            | (Self::Loopback, AddressKind::Loopback) => true,
        }
    }
}

fn kind(address: IpAddr) -> AddressKind {
    if METADATA.contains(&address) {
        return AddressKind::Never;
    }
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => AddressKind::Loopback,
        // RFC 1918; the carrier-grade NAT and benchmarking ranges, which clusters and virtual
        // machines on laptops also use.
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (198, 18 | 19, _) => {
            AddressKind::Private
        }
        (0 | 224.., ..)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 51, 100)
        | (203, 0, 113) => AddressKind::Never,
        _ => AddressKind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> AddressKind {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressKind::Loopback,
        // These contain an IPv4 address: mapped, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // AWS has more than metadata there: EKS gives pods their credentials at `fd00:ec2::23`.
        [0xfd00, 0x0ec2, ..] | [0x2001, 0x0db8 | 0..=0x01ff, ..] | [0x3fff, ..] => {
            AddressKind::Never
        }
        [0xfc00..=0xfdff, ..] => AddressKind::Private,
        // All global unicast addresses are in 2000::/3.
        [0x2000..=0x3fff, ..] => AddressKind::Public,
        _ => AddressKind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_reached_by_those_who_may() {
        for (address, public, internal, loopback) in [
            ("140.82.112.3", true, true, false),
            ("2606:50c0:8000::153", true, true, false),
            ("64:ff9b::8c52:7003", true, true, false),
            ("127.0.0.1", false, true, true),
            ("127.8.8.8", false, true, true),
            ("::1", false, true, true),
            ("::ffff:127.0.0.1", false, true, true),
            ("10.0.0.1", false, true, false),
            ("172.16.0.1", false, true, false),
            ("172.31.255.255", false, true, false),
            ("192.168.1.1", false, true, false),
            ("100.64.0.1", false, true, false),
            ("fd12:3456::1", false, true, false),
            ("::ffff:10.0.0.1", false, true, false),
            ("64:ff9b::a00:1", false, true, false),
            ("2002:a00:1::", false, true, false),
            ("169.254.169.254", false, false, false),
            ("169.254.170.2", false, false, false),
            ("::ffff:169.254.169.254", false, false, false),
            ("64:ff9b::a9fe:a9fe", false, false, false),
            ("fd00:ec2::254", false, false, false),
            ("fd00:ec2::23", false, false, false),
            ("fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff", false, false, false),
            ("fd00:ec3::1", false, true, false),
            ("fd20:ce::254", false, false, false),
            ("fd20:ce::253", false, true, false),
            ("fd00:c1::a9fe:a9fe", false, false, false),
            ("fd00:100::100:200", false, false, false),
            ("fd00:a9fe:a9fe::1", false, false, false),
            ("fd00:42::42", false, false, false),
            ("100.100.100.200", false, false, false),
            ("100.100.100.201", false, true, false),
            ("64:ff9b::6464:64c8", false, false, false),
            ("168.63.129.16", false, false, false),
            ("168.63.129.17", true, true, false),
            ("192.0.0.192", false, false, false),
            ("fe80::1", false, false, false),
            ("0.0.0.0", false, false, false),
            ("::", false, false, false),
            ("255.255.255.255", false, false, false),
            ("224.0.0.1", false, false, false),
            ("ff02::1", false, false, false),
            ("198.18.0.1", false, true, false),
            ("198.19.255.255", false, true, false),
            ("198.51.100.1", false, false, false),
            ("192.0.2.1", false, false, false),
            ("203.0.113.1", false, false, false),
            ("2001:db8::1", false, false, false),
            ("2001::1", false, false, false),
            ("::7f00:1", false, false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let found = [Reach::Public, Reach::Internal, Reach::Loopback]
                .map(|reach| reach.permits(address));
            assert_eq!(found, [public, internal, loopback], "{address}");
            assert_eq!(Reach::Private.permits(address), internal && !public, "{address}");
        }
        assert!(Reach::Public.permits("172.32.0.1".parse().unwrap()));
        assert!(Reach::Public.permits("100.128.0.1".parse().unwrap()));
    }
}
