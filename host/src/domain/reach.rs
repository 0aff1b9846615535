//! Which addresses of the network something may be fetched from.
//!
//! Judged on the address that is connected to, never on a name: a name may mean another address a moment later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far towards the inside a connection may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Addresses of the internet only.
    Public,
    /// Also private ones and this machine's own. Never link-local ones, where clouds have their metadata, nor the metadata
    /// addresses that lie elsewhere: what answers there hands out the machine's own credentials.
    Internal,
    /// Private addresses and this machine's own, none of the internet: for what is not encrypted.
    Private,
    /// This machine only.
    Loopback,
}

/// Metadata services outside the link-local range: AWS over IPv6, Alibaba.
const METADATA: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Private,
    Loopback,
    /// Link-local, metadata, multicast, reserved, documentation.
    Never,
}

impl Reach {
    pub fn permits(self, address: IpAddr) -> bool {
        match (self, kind(address)) {
            (_, Kind::Never)
            | (Self::Public, Kind::Private | Kind::Loopback)
            | (Self::Private, Kind::Public)
            | (Self::Loopback, Kind::Public | Kind::Private) => false,
            (Self::Public | Self::Internal, Kind::Public)
            | (Self::Internal | Self::Private, Kind::Private | Kind::Loopback)
            | (Self::Loopback, Kind::Loopback) => true,
        }
    }
}

fn kind(address: IpAddr) -> Kind {
    if METADATA.contains(&address) {
        return Kind::Never;
    }
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => Kind::Loopback,
        // RFC 1918 and the addresses of carriers, which clusters use too.
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Kind::Private,
        (0 | 224.., ..)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> Kind {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        kind(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // An IPv4 address in another coat: mapped, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        [0xfc00..=0xfdff, ..] => Kind::Private,
        [0x2001, 0x0db8 | 0..=0x01ff, ..] | [0x3fff, ..] => Kind::Never,
        // All that is given out as global unicast lies in 2000::/3.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never,
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
            ("100.100.100.200", false, false, false),
            ("fe80::1", false, false, false),
            ("0.0.0.0", false, false, false),
            ("::", false, false, false),
            ("255.255.255.255", false, false, false),
            ("224.0.0.1", false, false, false),
            ("ff02::1", false, false, false),
            ("198.18.0.1", false, false, false),
            ("203.0.113.1", false, false, false),
            ("2001:db8::1", false, false, false),
            ("2001::1", false, false, false),
            ("::7f00:1", false, false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let found =
                [Reach::Public, Reach::Internal, Reach::Loopback].map(|it| it.permits(address));
            assert_eq!(found, [public, internal, loopback], "{address}");
            assert_eq!(Reach::Private.permits(address), internal && !public, "{address}");
        }
        assert!(Reach::Public.permits("172.32.0.1".parse().unwrap()));
        assert!(Reach::Public.permits("100.128.0.1".parse().unwrap()));
    }
}
