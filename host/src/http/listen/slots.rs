//! The limit on connections, in all and from one client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Edge;
use crate::domain::{ClientAddress, ClientNetwork, TrustedProxies};
use crate::hardening::give_back_memory;

pub(super) struct Slots {
    connections: usize,
    per_address: usize,
    unbounded: TrustedProxies,
    taken: Mutex<Taken>,
}

/// After this many connections the C library keeps enough freed memory to ask for it back.
const CROWD: usize = 256;

/// Holds at most as many networks as connections: a network without a connection is forgotten.
#[derive(Default)]
struct Taken {
    total: usize,
    /// The highest total since freed memory was last returned to the system.
    most: usize,
    networks: HashMap<ClientNetwork, usize>,
}

/// One connection's slot, until dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    network: ClientNetwork,
}

impl Slots {
    pub(super) fn new(edge: &Edge) -> Self {
        Self {
            connections: edge.connections,
            per_address: edge.connections_per_address,
            unbounded: edge.trusted_proxies.clone(),
            taken: Mutex::default(),
        }
    }

    pub(super) fn claim(self: &Arc<Self>, client: ClientAddress) -> Option<Slot> {
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
        Some(Slot { slots: Arc::clone(self), network })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.networks.get_mut(&self.network) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.networks.remove(&self.network);
            }
        }
        if taken.has_left() {
            taken.most = taken.total;
            // This walks the whole heap, so it has a thread of its own, for which nobody waits.
            let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(give_back_memory);
        }
    }
}

impl Taken {
    /// Whether there was a crowd of connections of which three quarters are closed.
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

    fn slots(connections: usize, per_address: usize, trusted: &[&str]) -> Arc<Slots> {
        let never = Duration::MAX;
        Arc::new(Slots::new(&Edge {
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
        let slots = slots(5, 2, &["192.0.2.9"]);
        let mut held: Vec<_> = (0..2).map(|_| slots.claim(client(1)).unwrap()).collect();
        assert!(slots.claim(client(1)).is_none());
        held.extend((0..3).map(|_| slots.claim(client(9)).unwrap()));
        assert!(slots.claim(client(2)).is_none(), "all are taken");
        held.clear();
        assert_eq!(slots.taken.lock().unwrap().networks.len(), 0);
        assert_eq!(slots.taken.lock().unwrap().total, 0);
        assert!(slots.claim(client(1)).is_some());
    }

    #[test]
    fn memory_is_given_back_once_a_crowd_has_left() {
        let slots = slots(CROWD, CROWD, &[]);
        let mut held: Vec<_> = (0..CROWD).map(|_| slots.claim(client(1)).unwrap()).collect();
        held.truncate(CROWD / 4 + 1);
        assert_eq!(slots.taken.lock().unwrap().most, CROWD);
        held.pop();
        assert_eq!(slots.taken.lock().unwrap().most, CROWD / 4);
        held.clear();
        assert_eq!(slots.taken.lock().unwrap().most, CROWD / 4, "too few to ask again");
    }
}
