//! How many connections there may be, in all and from one client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Edge;
use crate::domain::{ClientAddress, ClientNetwork, TrustedProxies};
use crate::hardening::give_back_memory;

pub(super) struct Places {
    connections: usize,
    per_address: usize,
    unbounded: TrustedProxies,
    taken: Mutex<Taken>,
}

/// So many connections leave memory behind that is worth asking for.
const CROWD: usize = 256;

/// At most as many networks as connections: one that has none is forgotten.
#[derive(Default)]
struct Taken {
    total: usize,
    /// The highest total since memory was last given back.
    most: usize,
    networks: HashMap<ClientNetwork, usize>,
}

/// One connection's place, until dropped.
pub(super) struct Place {
    places: Arc<Places>,
    network: ClientNetwork,
}

impl Places {
    pub(super) fn new(edge: &Edge) -> Self {
        Self {
            connections: edge.connections,
            per_address: edge.connections_per_address,
            unbounded: edge.trusted_proxies.clone(),
            taken: Mutex::default(),
        }
    }

    pub(super) fn take(self: &Arc<Self>, client: ClientAddress) -> Option<Place> {
        let network = client.network();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.networks.get(&network).copied().unwrap_or(0);
        let is_full = own >= self.per_address && !self.unbounded.contains(client);
        if taken.total >= self.connections || is_full {
            return None;
        }
        taken.total += 1;
        taken.most = taken.most.max(taken.total);
        taken.networks.insert(network, own + 1);
        Some(Place { places: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.networks.get_mut(&self.network) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.networks.remove(&self.network);
            }
        }
        if taken.has_left() {
            taken.most = taken.total;
            // It walks the whole heap: a thread of its own, which nobody waits for.
            let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(give_back_memory);
        }
    }
}

impl Taken {
    /// A crowd was here, and three quarters of it are gone.
    fn has_left(&self) -> bool {
        self.most >= CROWD && self.total <= self.most / 4
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;
    use crate::config::Timeouts;

    fn places(connections: usize, per_address: usize, trusted: &[&str]) -> Arc<Places> {
        let never = Duration::MAX;
        Arc::new(Places::new(&Edge {
            timeouts: Timeouts {
                handshake: never,
                header: never,
                body: never,
                idle: never,
                lifetime: never,
                request: never,
            },
            connections,
            connections_per_address: per_address,
            trusted_proxies: TrustedProxies::parse(trusted.iter().copied()).unwrap(),
        }))
    }

    fn client(last: u8) -> ClientAddress {
        ClientAddress::new(IpAddr::from(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[test]
    fn t43_places_are_bounded_in_all_and_per_address_and_are_given_back() {
        let places = places(5, 2, &["192.0.2.9"]);
        let mut held: Vec<_> = (0..2).map(|_| places.take(client(1)).unwrap()).collect();
        assert!(places.take(client(1)).is_none());
        held.extend((0..3).map(|_| places.take(client(9)).unwrap()));
        assert!(places.take(client(2)).is_none(), "all are taken");
        held.clear();
        assert_eq!(places.taken.lock().unwrap().networks.len(), 0);
        assert_eq!(places.taken.lock().unwrap().total, 0);
        assert!(places.take(client(1)).is_some());
    }

    #[test]
    fn memory_is_given_back_once_a_crowd_has_left() {
        let places = places(CROWD, CROWD, &[]);
        let mut held: Vec<_> = (0..CROWD).map(|_| places.take(client(1)).unwrap()).collect();
        held.truncate(CROWD / 4 + 1);
        assert_eq!(places.taken.lock().unwrap().most, CROWD);
        held.pop();
        assert_eq!(places.taken.lock().unwrap().most, CROWD / 4);
        held.clear();
        assert_eq!(places.taken.lock().unwrap().most, CROWD / 4, "too few to ask again");
    }
}
