//! Who is in: counts of connections, and the one live session of each client id. Shared by all workers.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use zonecast_core::SessionId;
use zonecast_protocol::{ClientId, Refusal, wire::ErrorCode};

use crate::ConnectionLimits;

/// The broker-wide books of connections and sessions.
///
/// The maps are touched when a connection or session begins or ends, never on an event's way.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
    live: DashMap<ClientId, Live>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    incarnation: u64,
    session: SessionId,
}

/// One admitted connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

/// The claim of a session to its client id; dropping it gives the id back unless a newer session took it.
#[derive(Debug)]
pub(crate) struct Claim {
    admission: Arc<Admission>,
    client: ClientId,
    session: SessionId,
}

impl Admission {
    /// Takes a place for a connection, or says which limit forbids it.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, limits: &ConnectionLimits) -> Result<Place, &'static str> {
        let place = Place { admission: Arc::clone(self), address };
        let here = {
            let mut count = self.by_address.entry(address).or_insert(0);
            *count += 1;
            *count
        };
        let all = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        // From here on a refusal drops `place`, which takes both counts back.
        if all > limits.connections_max {
            return Err("connections_max");
        }
        if here > limits.connections_per_address_max {
            return Err("connections_per_address_max");
        }
        Ok(place)
    }

    /// Makes `session` the live one of the client, and names the one that it replaces.
    pub(crate) fn claim(
        self: &Arc<Self>,
        client: &ClientId,
        incarnation: u64,
        session: SessionId,
    ) -> Result<(Claim, Option<SessionId>), Refusal> {
        let live = Live { incarnation, session };
        let replaced = match self.live.entry(client.clone()) {
            Entry::Occupied(held) if held.get().incarnation > incarnation => {
                return Err(Refusal::new(
                    ErrorCode::StaleIncarnation,
                    format!("a newer run of client {client} is connected (incarnation {})", held.get().incarnation),
                ));
            }
            Entry::Occupied(mut held) => Some(held.insert(live).session),
            Entry::Vacant(free) => {
                free.insert(live);
                None
            }
        };
        Ok((Claim { admission: Arc::clone(self), client: client.clone(), session }, replaced))
    }

    /// The live session of a client.
    pub(crate) fn session_of(&self, client: &ClientId) -> Option<SessionId> {
        self.live.get(client).map(|live| live.session)
    }

    /// Connections that are in.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut count) = self.admission.by_address.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.admission.live.remove_if(&self.client, |_, live| live.session == self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Arc::new(Admission::default());
        let limits =
            ConnectionLimits { connections_max: 3, connections_per_address_max: 2, ..ConnectionLimits::default() };
        let (home, away) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = admission.enter(home, &limits).unwrap();
        let _second = admission.enter(home, &limits).unwrap();
        assert_eq!(admission.enter(home, &limits).unwrap_err(), "connections_per_address_max");
        let _third = admission.enter(away, &limits).unwrap();
        assert_eq!(admission.enter(away, &limits).unwrap_err(), "connections_max");
        drop(first);
        assert_eq!(admission.connections(), 2);
        assert!(admission.enter(home, &limits).is_ok());
    }

    #[test]
    fn the_newer_run_of_a_client_wins() {
        let admission = Arc::new(Admission::default());
        let client = ClientId::new("zone-server-7").unwrap();
        let session = |count| SessionId::new(0, count);
        let (old, replaced) = admission.claim(&client, 5, session(1)).unwrap();
        assert_eq!(replaced, None);
        let stale = admission.claim(&client, 4, session(2)).unwrap_err();
        assert_eq!(stale.code, ErrorCode::StaleIncarnation);
        let (newer, replaced) = admission.claim(&client, 5, session(3)).unwrap();
        assert_eq!(replaced, Some(session(1)));
        drop(old);
        assert_eq!(admission.session_of(&client), Some(session(3)), "the old one's end leaves the new one in place");
        drop(newer);
        assert_eq!(admission.session_of(&client), None);
    }
}
