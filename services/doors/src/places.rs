//! The places that there are for connections by gRPC, and how many of them one address may have.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use zonecast_protocol::network_of;

use crate::metrics::{OpenConnection, RpcMetrics};

/// Places for connections, those that shake hands counted in. Clones are the same places.
#[derive(Clone)]
pub(crate) struct Places {
    max: usize,
    per_address_max: usize,
    metrics: RpcMetrics,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    /// By [`network_of`] the address; whoever has none is absent.
    by_address: HashMap<IpAddr, usize>,
}

/// One of the places; dropped, it is free again.
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
    _open: OpenConnection,
}

impl Places {
    pub(crate) fn new(max: usize, per_address_max: usize, metrics: RpcMetrics) -> Self {
        Self { max, per_address_max, metrics, taken: Arc::default() }
    }

    /// A place for a connection from this address, if there is one; counted where there is none.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = network_of(address);
        {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let here = taken.by_address.get(&address).copied().unwrap_or_default();
            if taken.total >= self.max || here >= self.per_address_max {
                self.metrics.connection_refused();
                return None;
            }
            taken.total += 1;
            taken.by_address.insert(address, here + 1);
        }
        Some(Place { taken: Arc::clone(&self.taken), address, _open: self.metrics.connection_opened() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Entry::Occupied(mut here) = taken.by_address.entry(self.address) {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_the_places_of_others_and_nothing_is_kept_of_who_has_gone() {
        let metrics = RpcMetrics::default();
        let places = Places::new(4, 2, metrics.clone());
        let take = |address: &str| places.take(address.parse().unwrap());
        let held = ["192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2"].map(|address| take(address).unwrap());
        assert!(take("192.0.2.3").is_none(), "all places are taken");
        let [first, ..] = held;
        drop(first);
        assert!(take("2001:db8::3").is_none(), "the network has its two");
        let again = take("192.0.2.1").unwrap();
        assert_eq!(metrics.connections(), (4, 2));
        drop(again);
        assert_eq!(places.taken.lock().unwrap().by_address.len(), 2);
    }
}
