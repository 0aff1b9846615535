//! Places at once, of which the clients of one network have a share only.
//!
//! **Invariant:** the map holds at most as many networks as there are places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::ClientNetwork;

/// One network has an eighth of the places, so that it takes eight to turn everybody else away.
const SHARES: usize = 8;

pub(super) struct Shares {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    networks: HashMap<ClientNetwork, usize>,
}

/// One place, until dropped.
pub struct Share {
    shares: Arc<Shares>,
    network: ClientNetwork,
}

/// Why there is no place.
pub(super) enum Full {
    /// The network has its share.
    Share,
    All,
}

impl Shares {
    pub(super) fn new(places: usize) -> Self {
        Self { places, taken: Mutex::default() }
    }

    pub(super) fn claim(self: &Arc<Self>, network: ClientNetwork) -> Result<Share, Full> {
        let mut taken = self.lock();
        let own = taken.networks.get(&network).copied().unwrap_or(0);
        if taken.total >= self.places {
            return Err(Full::All);
        }
        if own >= (self.places / SHARES).max(1) {
            return Err(Full::Share);
        }
        taken.total += 1;
        taken.networks.insert(network, own + 1);
        Ok(Share { shares: Arc::clone(self), network })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.networks.get_mut(&self.network) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.networks.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::domain::ClientAddress;

    fn network(address: impl Into<IpAddr>) -> ClientNetwork {
        ClientAddress::new(address.into()).network()
    }

    #[test]
    fn one_network_has_an_eighth() {
        let shares = Arc::new(Shares::new(32));
        let home = |last| network(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let mut held: Vec<Share> =
            (0..4).filter_map(|last| shares.claim(home(last)).ok()).collect();
        assert_eq!(held.len(), 4);
        assert!(matches!(shares.claim(home(9)), Err(Full::Share)));
        for last in 0..28 {
            held.push(shares.claim(network(Ipv4Addr::new(10, 0, 0, last))).ok().unwrap());
        }
        assert!(matches!(shares.claim(network(Ipv4Addr::new(10, 0, 1, 0))), Err(Full::All)));
        drop(held.remove(0));
        assert!(shares.claim(home(9)).is_ok());
        drop(held);
        assert!(shares.lock().networks.is_empty());
        assert_eq!(shares.lock().total, 0);
    }

    #[test]
    fn with_few_places_everybody_may_have_one() {
        let shares = Arc::new(Shares::new(2));
        let (one, other) = (network(Ipv4Addr::LOCALHOST), network(Ipv4Addr::new(127, 0, 0, 2)));
        let _held = shares.claim(one).ok().unwrap();
        assert!(matches!(shares.claim(one), Err(Full::Share)));
        assert!(shares.claim(other).is_ok());
    }
}
