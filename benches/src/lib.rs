//! Worlds, events and frames for the benches: made from seeds, so that every run measures the same.
//!
//! [`World`] is a set of zones and of circles that touch a wished number of them; [`World::router`] puts it into a
//! router. [`encoded_event`] and [`publish_batch`] make what arrives on a stream.
//!
//! Deliberately absent: sockets and whole brokers; those are measured by the `loadtest` crate.
//!
//! Start at [`World::new`].

use std::f64::consts::PI;

use bytes::{Bytes, BytesMut};
use prost::Message;
use zonecast_core::{InterestChange, InterestOp, KindFilter, Router, SessionId, TopicInterest, ZoneInterest};
use zonecast_protocol::{
    AckLevel, Circle, DeliveryClass, EventView, QueueGroup, Target, TopicPattern, WorldName, Zone,
    codec::encode_client_frame,
    wire::{self, client_frame},
};

/// Name of the world in all fixtures.
pub const WORLD: &str = "earth";

/// Side of a zone, in the world's unit of length.
const ZONE_SIDE: f64 = 100.0;

/// Circles in a fixture: enough that neither branches nor zones are learnt by heart, few enough to stay in the cache.
const CIRCLES: usize = 1024;

/// How the zones of a world lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Side by side on a square grid, as game servers divide a world among them. Neighbours share their edges.
    Tiling,
    /// Anywhere, as interest around players; as dense as the tiling, hence with overlaps and gaps.
    Random,
}

/// Zones, and the side of the square in which they lie.
#[derive(Debug, Clone)]
pub struct World {
    zones: Vec<Zone>,
    side: f64,
}

fn zone_at(x: f64, y: f64) -> Zone {
    Zone::new(x, y, x + ZONE_SIDE, y + ZONE_SIDE).expect("finite, and minimum below maximum")
}

impl World {
    /// A world of so many zones, each 100 x 100. A tiling leaves the last row of its square incomplete.
    #[must_use]
    pub fn new(placement: Placement, zones: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(u64::from(zones));
        let columns = f64::from(zones).sqrt().ceil();
        let side = columns * ZONE_SIDE;
        let zones = (0..zones).map(|number| match placement {
            Placement::Tiling => {
                let (row, column) = ((f64::from(number) / columns).floor(), f64::from(number) % columns);
                zone_at(column * ZONE_SIDE, row * ZONE_SIDE)
            }
            Placement::Random => zone_at(rng.f64() * side - ZONE_SIDE / 2.0, rng.f64() * side - ZONE_SIDE / 2.0),
        });
        Self { zones: zones.collect(), side }
    }

    /// Circles all over the world that touch `hits` (1 or more) zones each on average.
    ///
    /// By Steiner's formula a circle of radius r touches 1 + 4r + pi r^2 unit squares of a tiling on average, and as
    /// many random ones of the same density.
    #[must_use]
    pub fn circles(&self, hits: f64) -> Vec<Circle> {
        let radius = ZONE_SIDE * (-4.0 + (16.0 + 4.0 * PI * (hits - 1.0)).sqrt()) / (2.0 * PI);
        let mut rng = fastrand::Rng::with_seed(0x5eed);
        let mut coordinate = || radius + rng.f64() * (self.side - 2.0 * radius);
        let circles = std::iter::repeat_with(|| (coordinate(), coordinate()));
        circles.take(CIRCLES).map(|(x, y)| Circle::new(x, y, radius).expect("finite, and hits is 1 or more")).collect()
    }

    /// A router that holds the world, each zone by another session, loaded in one change.
    #[must_use]
    pub fn router(&self, kinds: &KindFilter) -> Router {
        let mut router = Router::new();
        router.apply(&self.change(kinds));
        router
    }

    /// The change that puts every zone under id 1, each for another session.
    #[must_use]
    pub fn change(&self, kinds: &KindFilter) -> InterestChange {
        let ops = self.zones.iter().zip(0..).map(|(zone, number)| put(number, *zone, kinds));
        InterestChange { epoch: 1, ops: ops.collect() }
    }

    /// Changes of one zone each, forth and back by a tenth of its side: applied again and again they keep the world's
    /// shape.
    #[must_use]
    pub fn moves(&self) -> Vec<InterestChange> {
        let mut rng = fastrand::Rng::with_seed(0xca11);
        let there_and_back = std::iter::repeat_with(|| {
            let number = rng.usize(..self.zones.len());
            let home = self.zones[number];
            let (dx, dy) = ((rng.f64() - 0.5) * ZONE_SIDE / 5.0, (rng.f64() - 0.5) * ZONE_SIDE / 5.0);
            let away = zone_at(home.min()[0] + dx, home.min()[1] + dy);
            [away, home].map(|zone| InterestChange { epoch: 1, ops: vec![put(number as u64, zone, &KindFilter::All)] })
        });
        there_and_back.take(CIRCLES).flatten().collect()
    }
}

fn put(number: u64, zone: Zone, kinds: &KindFilter) -> InterestOp {
    let world = WorldName::new(WORLD).expect("within the grammar of names");
    InterestOp::PutZone(SessionId::new(0, number), 1, ZoneInterest { world, zone, kinds: kinds.clone() })
}

/// A router in which `sessions` sessions listen to each of these patterns, in the queue group if one is given.
///
/// # Panics
/// A pattern breaks its grammar.
#[must_use]
pub fn topic_router<'a>(
    sessions: u64,
    patterns: impl IntoIterator<Item = &'a str>,
    queue_group: Option<&QueueGroup>,
) -> Router {
    let mut ops = Vec::new();
    for (pattern, id) in patterns.into_iter().zip(1..) {
        let pattern = TopicPattern::new(pattern).expect("the fixture's pattern is valid");
        let interest = TopicInterest { pattern, queue_group: queue_group.cloned() };
        ops.extend((0..sessions).map(|number| InterestOp::PutTopic(SessionId::new(0, number), id, interest.clone())));
    }
    let mut router = Router::new();
    router.apply(&InterestChange { epoch: 1, ops });
    router
}

/// The view of an event with this target, of kind `quake`.
#[must_use]
pub fn event_to(target: Target<'_>) -> EventView<'_> {
    EventView {
        target,
        kind: "quake",
        source: 0x0102_0304_0506_0708,
        lane: 1,
        lane_seq: 1_000_000,
        class: DeliveryClass::Reliable,
        key: "",
        reply_to: "",
        published_at_us: 1_795_000_000_000_000,
        traceparent: "",
        payload: b"",
    }
}

/// An encoded event of kind `quake` in [`WORLD`], with a payload of so many bytes.
#[must_use]
pub fn encoded_event(circle: &Circle, payload_bytes: usize) -> Bytes {
    let place = wire::Place { world: WORLD.into(), x: circle.x(), y: circle.y(), radius: circle.radius() };
    let view = event_to(Target::Topic(""));
    let event = wire::Event {
        target: Some(wire::event::Target::Place(place)),
        kind: view.kind.into(),
        source: view.source,
        lane: view.lane,
        lane_seq: view.lane_seq,
        class: view.class.into(),
        published_at_us: view.published_at_us,
        payload: vec![0x5a; payload_bytes].into(),
        ..wire::Event::default()
    };
    event.encode_to_vec().into()
}

/// So many `Publish` frames in a row, as they lie on a lane's stream.
#[must_use]
pub fn publish_batch(frames: usize, event: &Bytes) -> Bytes {
    let mut stream = BytesMut::new();
    for _ in 0..frames {
        let publish = wire::Publish { ack: AckLevel::Routed.into(), event: event.clone(), ..wire::Publish::default() };
        encode_client_frame(client_frame::Frame::Publish(publish), &mut stream);
    }
    stream.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables in the README are read by number of hits.
    #[test]
    fn circles_touch_about_as_many_zones_as_wished() {
        for placement in [Placement::Tiling, Placement::Random] {
            let world = World::new(placement, 10_000);
            let mut router = world.router(&KindFilter::All);
            for wished in [1.0, 4.0, 16.0] {
                let circles = world.circles(wished);
                let hits: usize = circles
                    .iter()
                    .map(|circle| router.route(&event_to(Target::Place { world: WORLD, circle: *circle }), None).len())
                    .sum();
                let mean = hits as f64 / circles.len() as f64;
                assert!((mean / wished - 1.0).abs() < 0.1, "{placement:?}: {mean} hits instead of {wished}");
            }
        }
    }

    #[test]
    fn moves_bring_every_zone_back() {
        let world = World::new(Placement::Tiling, 300);
        let mut router = world.router(&KindFilter::All);
        world.moves().iter().for_each(|change| router.apply(change));
        for (zone, number) in world.zones.iter().zip(0..) {
            assert_eq!(router.zone(SessionId::new(0, number), 1).unwrap().zone, *zone);
        }
    }
}
