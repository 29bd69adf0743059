//! What the three own brokers have in common: zonecast's router, and the sessions around it.

use zonecast_core::{InterestChange, InterestOp, KindFilter, Router, SessionId, ZoneInterest};
use zonecast_protocol::{Circle, DeliveryClass, EventView, Target, WorldName, Zone};

/// The one world of the bake-off.
const WORLD: &str = "bakeoff";

/// The router with the zones of all sessions. Each session has an entry of the broker's own, its outbox.
#[derive(Debug)]
pub struct Hub<O> {
    router: Router,
    world: WorldName,
    /// By the session's number; none for a session that has left.
    outboxes: Vec<Option<O>>,
    epoch: u64,
}

impl<O> Default for Hub<O> {
    fn default() -> Self {
        let world = WorldName::new(WORLD).expect("the name follows the grammar");
        Self { router: Router::new(), world, outboxes: Vec::new(), epoch: 0 }
    }
}

impl<O> Hub<O> {
    /// The number that the next session will have.
    #[must_use]
    pub fn next_session(&self) -> SessionId {
        SessionId::new(0, self.outboxes.len() as u64)
    }

    /// A new session.
    pub fn join(&mut self, outbox: O) -> SessionId {
        let session = self.next_session();
        self.outboxes.push(Some(outbox));
        session
    }

    /// Puts these zones in place of those that the session held.
    pub fn subscribe(&mut self, session: SessionId, zones: impl IntoIterator<Item = Zone>) {
        let world = self.world.clone();
        let puts = (0..).zip(zones).map(|(id, zone)| {
            InterestOp::PutZone(session, id, ZoneInterest { world: world.clone(), zone, kinds: KindFilter::All })
        });
        let ops = std::iter::once(InterestOp::EndSession(session)).chain(puts).collect();
        self.apply(ops);
    }

    /// Ends a session.
    pub fn leave(&mut self, session: SessionId) {
        if let Some(outbox) = place(session).and_then(|place| self.outboxes.get_mut(place)) {
            *outbox = None;
        }
        self.apply(vec![InterestOp::EndSession(session)]);
    }

    /// Calls `deliver` with the outbox of every session that the circle reaches. Gives back how many there are.
    pub fn route(&mut self, circle: Circle, mut deliver: impl FnMut(&O)) -> u32 {
        let event = EventView {
            target: Target::Place { world: WORLD, circle },
            kind: "",
            source: 0,
            lane: 0,
            lane_seq: 0,
            class: DeliveryClass::Reliable,
            key: "",
            reply_to: "",
            published_at_us: 0,
            traceparent: "",
            payload: &[],
        };
        let mut matched = 0;
        for session in self.router.route(&event, None) {
            if let Some(outbox) = place(*session).and_then(|place| self.outboxes.get(place)?.as_ref()) {
                deliver(outbox);
                matched += 1;
            }
        }
        matched
    }

    fn apply(&mut self, ops: Vec<InterestOp>) {
        self.epoch += 1;
        self.router.apply(&InterestChange { epoch: self.epoch, ops });
    }
}

fn place(session: SessionId) -> Option<usize> {
    usize::try_from(session.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reaches_each_session_that_it_touches_once_until_the_session_leaves() {
        let square = |x: f64| Zone::new(x, 0.0, x + 1.0, 1.0).unwrap();
        let mut hub = Hub::default();
        let (west, east) = (hub.join("west"), hub.join("east"));
        hub.subscribe(west, [square(0.0), square(1.0)]);
        hub.subscribe(east, [square(2.0)]);
        let reached = |hub: &mut Hub<&'static str>, x| {
            let mut reached = Vec::new();
            let matched = hub.route(Circle::new(x, 0.5, 0.1).unwrap(), |outbox| reached.push(*outbox));
            assert_eq!(matched as usize, reached.len());
            reached
        };
        assert_eq!(reached(&mut hub, 1.0), ["west"], "both of its zones are touched");
        assert_eq!(reached(&mut hub, 2.0), ["west", "east"]);
        hub.subscribe(west, [square(5.0)]);
        assert_eq!(reached(&mut hub, 2.0), ["east"]);
        hub.leave(east);
        assert_eq!(reached(&mut hub, 2.0), Vec::<&str>::new());
        assert_eq!(reached(&mut hub, 5.5), ["west"]);
    }
}
