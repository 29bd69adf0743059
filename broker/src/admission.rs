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
use zonecast_protocol::{ClientId, Refusal, network_of, source_of, wire::ErrorCode};

use crate::ConnectionLimits;

/// The broker-wide books of connections and sessions.
///
/// The maps are touched when a connection or session begins or ends, never on an event's way.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    by_address: DashMap<IpAddr, Counts>,
    by_identity: DashMap<String, usize>,
    live: DashMap<ClientId, Live>,
    /// The session of each publisher's source, for answers that come late.
    publishers: DashMap<u64, SessionId>,
    detached: AtomicUsize,
}

/// Of one address.
#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    handshakes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    incarnation: u64,
    session: SessionId,
}

/// One admitted connection; dropping it gives back whatever it holds.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    /// Whether its handshake is under way.
    handshaking: bool,
    /// Whom it belongs to, once that is known.
    identity: Option<String>,
}

/// The claim of a session to its client id; dropping it gives the id back unless a newer session took it.
#[derive(Debug)]
pub(crate) struct Claim {
    admission: Arc<Admission>,
    client: ClientId,
    session: SessionId,
    source: u64,
}

/// A session that is kept without a connection; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Kept {
    admission: Arc<Admission>,
}

impl Admission {
    /// Takes a place for a connection whose handshake begins, or says which limit forbids it.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, limits: &ConnectionLimits) -> Result<Place, &'static str> {
        let address = network_of(address);
        let place = Place { admission: Arc::clone(self), address, handshaking: true, identity: None };
        let (connections_here, handshakes_here) = {
            let mut counts = self.by_address.entry(address).or_default();
            counts.connections += 1;
            counts.handshakes += 1;
            (counts.connections, counts.handshakes)
        };
        let connections = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let handshakes = self.handshakes.fetch_add(1, Ordering::Relaxed) + 1;
        // From here on a refusal drops `place`, which takes all counts back.
        for (count, max, limit) in [
            (connections, limits.connections_max, "connections_max"),
            (connections_here, limits.connections_per_address_max, "connections_per_address_max"),
            (handshakes, limits.handshakes_max, "handshakes_max"),
            (handshakes_here, limits.handshakes_per_address_max, "handshakes_per_address_max"),
        ] {
            if count > max {
                return Err(limit);
            }
        }
        Ok(place)
    }

    /// Whether a peer must show that its address is its own before its handshake begins.
    pub(crate) fn is_pressed(&self, limits: &ConnectionLimits) -> bool {
        self.handshakes() >= limits.retry_from_handshakes
    }

    /// Makes `session` the live one of the client, and names the one that it replaces.
    pub(crate) fn claim(
        self: &Arc<Self>,
        client: &ClientId,
        incarnation: u64,
        session: SessionId,
    ) -> Result<(Claim, Option<SessionId>), Refusal> {
        let (live, source) = (Live { incarnation, session }, source_of(client, incarnation));
        let entry = self.live.entry(client.clone());
        if let Entry::Occupied(held) = &entry
            && held.get().incarnation > incarnation
        {
            let newest = held.get().incarnation;
            let message = format!("a newer run of client {client} is connected (incarnation {newest})");
            return Err(Refusal::new(ErrorCode::StaleIncarnation, message));
        }
        // While the entry is held, so that both books name the same session.
        self.publishers.insert(source, session);
        let replaced = match entry {
            Entry::Occupied(mut held) => Some(held.insert(live).session),
            Entry::Vacant(free) => {
                free.insert(live);
                None
            }
        };
        Ok((Claim { admission: Arc::clone(self), client: client.clone(), session, source }, replaced))
    }

    /// The session of a publisher.
    pub(crate) fn session_of_publisher(&self, source: u64) -> Option<SessionId> {
        self.publishers.get(&source).map(|session| *session)
    }

    /// Takes a place for a session without a connection, of which there may be as many as connections.
    pub(crate) fn keep(self: &Arc<Self>, limits: &ConnectionLimits) -> Option<Kept> {
        let kept = Kept { admission: Arc::clone(self) };
        let detached = self.detached.fetch_add(1, Ordering::Relaxed) + 1;
        (detached <= limits.connections_max).then_some(kept)
    }

    /// Sessions without a connection.
    pub(crate) fn detached(&self) -> usize {
        self.detached.load(Ordering::Relaxed)
    }

    /// The live session of a client.
    pub(crate) fn session_of(&self, client: &ClientId) -> Option<SessionId> {
        self.live.get(client).map(|live| live.session)
    }

    /// Connections that are in.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections whose handshake is under way.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }
}

impl Place {
    /// The handshake is done.
    pub(crate) fn shaken_hands(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.admission.handshakes.fetch_sub(1, Ordering::Relaxed);
            if let Some(mut counts) = self.admission.by_address.get_mut(&self.address) {
                counts.handshakes -= 1;
            }
        }
    }

    /// The connection is this identity's, which may hold only so many.
    pub(crate) fn identify(&mut self, identity: String, limits: &ConnectionLimits) -> Result<(), Refusal> {
        let max = limits.connections_per_identity_max;
        let mut held = self.admission.by_identity.entry(identity.clone()).or_insert(0);
        if *held >= max {
            let message =
                format!("{identity} holds {max} connections, as many as it may (connections.per_identity_max)");
            return Err(Refusal::new(ErrorCode::TooManyConnections, message));
        }
        *held += 1;
        self.identity = Some(identity);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shaken_hands();
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut counts) = self.admission.by_address.entry(self.address) {
            counts.get_mut().connections -= 1;
            if counts.get().connections == 0 {
                counts.remove();
            }
        }
        if let Some(identity) = self.identity.take()
            && let Entry::Occupied(mut held) = self.admission.by_identity.entry(identity)
        {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.admission.live.remove_if(&self.client, |_, live| live.session == self.session);
        self.admission.publishers.remove_if(&self.source, |_, session| *session == self.session);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.admission.detached.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Arc::new(Admission::default());
        let limits =
            ConnectionLimits { connections_max: 3, connections_per_address_max: 2, ..ConnectionLimits::default() };
        let first = admission.enter(HOME, &limits).unwrap();
        let _second = admission.enter(HOME, &limits).unwrap();
        assert_eq!(admission.enter(HOME, &limits).unwrap_err(), "connections_per_address_max");
        let _third = admission.enter(AWAY, &limits).unwrap();
        assert_eq!(admission.enter(AWAY, &limits).unwrap_err(), "connections_max");
        drop(first);
        assert_eq!(admission.connections(), 2);
        assert!(admission.enter(HOME, &limits).is_ok());
    }

    #[test]
    fn handshakes_are_counted_until_they_are_done() {
        let admission = Arc::new(Admission::default());
        let limits = ConnectionLimits {
            handshakes_max: 3,
            handshakes_per_address_max: 2,
            retry_from_handshakes: 1,
            ..ConnectionLimits::default()
        };
        assert!(!admission.is_pressed(&limits));
        let mut first = admission.enter(HOME, &limits).unwrap();
        assert!(admission.is_pressed(&limits));
        let second = admission.enter(HOME, &limits).unwrap();
        assert_eq!(admission.enter(HOME, &limits).unwrap_err(), "handshakes_per_address_max");
        let third = admission.enter(AWAY, &limits).unwrap();
        assert_eq!(admission.enter(AWAY, &limits).unwrap_err(), "handshakes_max");
        assert_eq!(admission.handshakes(), 3, "who was refused is not counted");
        first.shaken_hands();
        first.shaken_hands();
        assert_eq!((admission.handshakes(), admission.connections()), (2, 3));
        let fourth = admission.enter(HOME, &limits).unwrap();
        drop((first, second, third, fourth));
        assert_eq!((admission.handshakes(), admission.connections()), (0, 0));
        assert!(admission.by_address.is_empty());
    }

    #[test]
    fn an_identity_has_its_own_bound_and_gets_its_places_back() {
        let admission = Arc::new(Admission::default());
        let limits = ConnectionLimits { connections_per_identity_max: 2, ..ConnectionLimits::default() };
        let enter = |identity: &str| {
            let mut place = admission.enter(HOME, &limits).unwrap();
            place.identify(identity.to_owned(), &limits).map(|()| place)
        };
        let (first, _second) = (enter("shard").unwrap(), enter("shard").unwrap());
        let refused = enter("shard").unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooManyConnections);
        assert!(refused.message.contains("per_identity_max"), "{}", refused.message);
        assert!(enter("other").is_ok());
        drop(first);
        assert!(enter("shard").is_ok());
        assert_eq!(admission.by_identity.len(), 1, "whoever is gone is forgotten");
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
