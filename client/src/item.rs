//! What a subscription yields beside events.

use zonecast_protocol::{GeometryError, Refusal, Zone, wire};

use crate::{event::Event, feed::Item, mailbox::Weigh};

/// A zone as a client subscribes to it: a number of the client's own, where it lies, and what it hears of.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneSpec {
    id: u32,
    world: String,
    zone: Zone,
    kinds: Vec<String>,
}

impl ZoneSpec {
    /// The zone of this number (1 to 2,147,483,647; greater ones are given to zones that other clients hand over) in a
    /// world (1 to 64 bytes of `[A-Za-z0-9_.-]`), for all kinds of event.
    #[must_use]
    pub fn new(id: u32, world: impl Into<String>, zone: Zone) -> Self {
        Self { id, world: world.into(), zone, kinds: Vec::new() }
    }

    /// Hears only of these kinds, at most [`Limits::kinds_per_zone_max`](crate::Limits::kinds_per_zone_max).
    #[must_use]
    pub fn kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// The number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &str {
        &self.world
    }

    /// The rectangle, in the world's unit of length.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The kinds that it hears of; none stands for all.
    #[must_use]
    pub fn kind_filter(&self) -> &[String] {
        &self.kinds
    }

    pub(crate) fn to_wire(&self) -> wire::Zone {
        let ([min_x, min_y], [max_x, max_y]) = (self.zone.min(), self.zone.max());
        wire::Zone { id: self.id, world: self.world.clone(), min_x, min_y, max_x, max_y, kinds: self.kinds.clone() }
    }

    pub(crate) fn from_wire(zone: wire::Zone) -> Result<Self, GeometryError> {
        let rectangle = Zone::new(zone.min_x, zone.min_y, zone.max_x, zone.max_y)?;
        Ok(Self { id: zone.id, world: zone.world, zone: rectangle, kinds: zone.kinds })
    }
}

/// Why deliveries are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapReason {
    /// The broker does not say.
    NotStated,
    /// This client read too slowly: transient events were dropped.
    SlowConsumer,
    /// The broker no longer kept them.
    Evicted,
    /// Transient events that were on their way when a connection was lost, or that the network dropped.
    Lost,
    /// This version of the library cannot read the event.
    Undecodable,
    /// It comes more than 16,384 events of its lane behind the latest one, and may have been handed on before: that is no
    /// longer known. Happens to a client that comes back to a broker that has kept its deliveries, after a long time with
    /// another one.
    TooLate,
}

impl From<i32> for GapReason {
    fn from(reason: i32) -> Self {
        match wire::GapReason::try_from(reason) {
            Ok(wire::GapReason::SlowConsumer) => Self::SlowConsumer,
            Ok(wire::GapReason::Evicted) => Self::Evicted,
            Ok(wire::GapReason::Lost) => Self::Lost,
            _ => Self::NotStated,
        }
    }
}

/// What a [`ZoneSubscription`](crate::ZoneSubscription) yields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ZoneItem {
    /// An event whose circle touches one of the zones, or touched one when it was published.
    Event(Event),
    /// Another client handed zones over; they are among the subscription's zones from now on.
    ///
    /// Comes on another stream than events do: events in these zones may arrive a little earlier.
    Received {
        /// The former holder's client id.
        from: String,
        /// The zones, under the numbers by which they are held here.
        zones: Vec<ZoneSpec>,
        /// The change's number in the broker's order of changes.
        epoch: u64,
    },
    /// Deliveries to this client that will never come. They may have been for any of its subscriptions.
    Gap {
        /// The first that is missing, as the broker numbers them within a session.
        from_seq: u64,
        /// The last that is missing.
        to_seq: u64,
        /// Why.
        reason: GapReason,
    },
    /// The connection was lost, and the broker has not kept the session: another broker was found, or the same one after
    /// a restart or too late. Events that were published in between may be missing.
    ///
    /// A connection that is made again in time, to the same broker, shows nothing: everything goes on behind the last
    /// item.
    Interrupted,
    /// On a new session the broker refuses these zones, which the subscription held before: it has other limits than the
    /// broker before, or the client has lost a right. They are not held any more; the others are.
    Refused {
        /// The zones, which may be asked for again.
        zones: Vec<ZoneSpec>,
        /// Why.
        refusal: Refusal,
    },
}

impl ZoneItem {
    /// The event, if it is one.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        if let Self::Event(event) = self { Some(event) } else { None }
    }

    /// The event, if it is one.
    #[must_use]
    pub fn into_event(self) -> Option<Event> {
        if let Self::Event(event) = self { Some(event) } else { None }
    }
}

/// What a [`TopicSubscription`](crate::TopicSubscription) yields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TopicItem {
    /// An event whose topic the pattern matches.
    Event(Event),
    /// As [`ZoneItem::Gap`].
    Gap {
        /// The first that is missing, as the broker numbers them within a session.
        from_seq: u64,
        /// The last that is missing.
        to_seq: u64,
        /// Why.
        reason: GapReason,
    },
    /// As [`ZoneItem::Interrupted`].
    Interrupted,
    /// On a new session the broker refuses this subscription, which it or another broker had granted before. No event
    /// comes any more; drop it, and subscribe again if that may help.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

impl TopicItem {
    /// The event, if it is one.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        if let Self::Event(event) = self { Some(event) } else { None }
    }

    /// The event, if it is one.
    #[must_use]
    pub fn into_event(self) -> Option<Event> {
        if let Self::Event(event) = self { Some(event) } else { None }
    }
}

impl Item for ZoneItem {
    fn as_event(&self) -> Option<&Event> {
        self.event()
    }

    fn into_event(self) -> Option<Event> {
        self.into_event()
    }
}

impl Item for TopicItem {
    fn as_event(&self) -> Option<&Event> {
        self.event()
    }

    fn into_event(self) -> Option<Event> {
        self.into_event()
    }
}

impl Weigh for ZoneItem {
    fn weight_bytes(&self) -> usize {
        self.event().map_or(0, |event| event.raw().len())
    }
}

impl Weigh for TopicItem {
    fn weight_bytes(&self) -> usize {
        self.event().map_or(0, |event| event.raw().len())
    }
}
