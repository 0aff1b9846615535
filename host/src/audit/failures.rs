//! Tokens that were missing or wrong. They are counted before they are written, because anybody can
//! send them and nobody must be able to fill the log with them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// The most pairs of address prefix and reason in one interval. Any more are counted as `others`,
/// so that an attacker with many addresses causes at most this many records.
pub(super) const MOST: usize = 128;
const LONGEST_REASON: usize = 96;

#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<(String, String), u64>>);

impl Failures {
    pub(super) fn count(&self, client: Option<IpAddr>, reason: &str) {
        let reason = reason.chars().take(LONGEST_REASON).collect();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (client.map_or_else(|| "unknown".to_owned(), prefix), reason);
        if counts.len() >= MOST && !counts.contains_key(&key) {
            key = ("others".to_owned(), "any".to_owned());
        }
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns the counts since the last call and starts anew.
    pub(super) fn drain(&self) -> HashMap<(String, String), u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The network that one party usually owns: /24 of IPv4, /56 of IPv6.
fn prefix(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << 72);
            format!("{}/56", std::net::Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_by_network() {
        for (address, expected) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2345::9", "2001:db8:1:2300::/56"),
        ] {
            assert_eq!(prefix(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_flood_is_a_bounded_number_of_counts_and_none_is_lost() {
        let failures = Failures::default();
        for number in 0..100_000_u32 {
            failures.count(Some(IpAddr::from(number.to_be_bytes())), "expired");
            failures.count(
                Some(IpAddr::from((u128::from(number) << 72).to_be_bytes())),
                &number.to_string(),
            );
        }
        let counts = failures.drain();
        assert!(counts.len() <= MOST + 1, "{}", counts.len());
        assert_eq!(counts.values().sum::<u64>(), 200_000);
        assert!(failures.drain().is_empty());
    }
}
