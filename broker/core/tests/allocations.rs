//! In the steady state the hot path allocates nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use allocation_counter::measure;
use prost::Message;
use zonecast_core::{
    Arrival, Chunks, Datagrams, EventHead, InterestChange, InterestOp, KindFilter, OutboundEvent, Outbox, OutboxLimits,
    Pushed, Router, SessionId, TopicInterest, ZoneInterest,
};
use zonecast_protocol::{
    Circle, DeliveryClass, EventView, Kind, QueueGroup, Target, TopicPattern, WorldName, Zone, wire,
};

const SESSIONS: u64 = 50;

/// Fifty sessions, each with a column of a hundred zones of which every other is filtered, and with topics of all
/// sorts.
fn crowded() -> Router {
    let mut ops = Vec::new();
    let world = WorldName::new("earth").unwrap();
    let filter = KindFilter::Only([Kind::new("quake").unwrap()].into());
    for (number, x) in (0..SESSIONS).zip(0..) {
        let session = SessionId::new(0, number);
        for (id, y) in (0..100_u32).zip(0..) {
            let (x, y) = (f64::from(x) * 10.0, f64::from(y) * 10.0);
            let zone = Zone::new(x, y, x + 10.0, y + 10.0).unwrap();
            let kinds = if id % 2 == 0 { KindFilter::All } else { filter.clone() };
            ops.push(InterestOp::PutZone(session, id, ZoneInterest { world: world.clone(), zone, kinds }));
        }
        for (id, (pattern, group)) in
            (0..).zip([("a.b.c", None), ("a.*.c", None), ("a.>", None), (">", Some("g")), ("a.*.*", Some("h"))])
        {
            let pattern = TopicPattern::new(pattern).unwrap();
            let queue_group = group.map(|group| QueueGroup::new(group).unwrap());
            ops.push(InterestOp::PutTopic(session, id, TopicInterest { pattern, queue_group }));
        }
    }
    let mut router = Router::new();
    router.apply(&InterestChange { epoch: 1, ops });
    router
}

fn event(target: Target<'_>) -> EventView<'_> {
    EventView {
        target,
        kind: "quake",
        source: 1,
        lane: 0,
        lane_seq: 1,
        class: DeliveryClass::Reliable,
        key: "",
        reply_to: "",
        published_at_us: 0,
        traceparent: "",
        payload: b"payload",
    }
}

/// Routes it twice, and counts what the second time allocates.
fn allocations_of(router: &mut Router, target: Target<'_>) -> u64 {
    assert!(router.route(&event(target), None).len() > 1, "{target:?} is meant to reach some");
    measure(|| {
        for exclude in [None, Some(SessionId::new(0, 3))] {
            assert!(!router.route(&event(target), exclude).is_empty());
        }
    })
    .count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![0_u8; 10]))).count_total, 1);
}

#[test]
fn routing_to_a_place_allocates_nothing() {
    let mut router = crowded();
    for radius in [5.0, 50.0, 5_000.0] {
        let circle = Circle::new(250.0, 500.0, radius).unwrap();
        assert_eq!(allocations_of(&mut router, Target::Place { world: "earth", circle }), 0, "radius {radius}");
    }
}

#[test]
fn routing_to_a_topic_allocates_nothing() {
    let mut router = crowded();
    assert_eq!(allocations_of(&mut router, Target::Topic("a.b.c")), 0);
    assert_eq!(allocations_of(&mut router, Target::Topic("a.x.c")), 0);
}

/// An event on a topic, encoded, and what outboxes need to know of it.
fn encoded(topic: &str, class: DeliveryClass, payload_bytes: usize) -> (EventHead, Vec<u8>) {
    let event = wire::Event {
        target: Some(wire::event::Target::Topic(topic.to_owned())),
        lane_seq: 1,
        class: class.into(),
        payload: vec![7; payload_bytes].into(),
        ..Default::default()
    };
    let bytes = event.encode_to_vec();
    (EventHead::new(&EventView::decode(&bytes).unwrap(), Arrival::default()), bytes)
}

/// Publishes so many events to so many warm outboxes, drains them and acknowledges; measures what that allocates.
fn allocations_of_publishing(events: u64, sessions: usize) -> allocation_counter::AllocationInfo {
    let (head, encoded) = encoded("a.b", DeliveryClass::Reliable, 64);
    let mut outboxes: Vec<Outbox> = (0..sessions).map(|_| Outbox::new(OutboxLimits::default(), true)).collect();
    let mut published = 0;
    let mut publish = || {
        for _ in 0..events {
            let event = OutboundEvent::new(&head, &encoded);
            for outbox in &mut outboxes {
                assert_eq!(outbox.push(&event), Pushed::Queued);
            }
        }
        published += events;
        for outbox in &mut outboxes {
            let mut chunks = Chunks::default();
            let drained = outbox.drain(&mut chunks, usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
            assert_eq!((drained.deliveries, chunks.take().len()), (events, 1));
            outbox.acknowledge(published, &[], |_, _| {}).unwrap();
        }
    };
    publish();
    measure(publish)
}

#[test]
fn a_batch_of_deliveries_costs_the_same_few_allocations_however_many_they_are() {
    for sessions in [1, 50] {
        let of_one_batch = allocations_of_publishing(100, sessions as usize);
        assert_eq!(of_one_batch.count_total, 4 * sessions, "a run, when it came, its place and its writing");
        let of_a_larger_one = allocations_of_publishing(300, sessions as usize);
        assert_eq!(of_a_larger_one.count_total, of_one_batch.count_total, "in batches of any size");
        let bytes = of_a_larger_one.bytes_total - of_one_batch.bytes_total;
        let of_deliveries = 200 * sessions * 84;
        assert!(
            bytes < of_deliveries * 3 / 2,
            "{bytes} for {of_deliveries}: room for little more than was needed last"
        );
    }
}

#[test]
fn a_delivery_alone_costs_few_allocations() {
    // Of them one or two for the chunk that it is copied to, where a writer has none left over.
    let allocations = allocations_of_publishing(1, 1).count_total;
    assert!(allocations <= 7, "{allocations}");
}

/// After a long run, deliveries that others stand between get no more room than they need; and large events are shared,
/// not copied for each session.
#[test]
fn what_waits_takes_as_much_memory_as_it_is_counted_for() {
    let event = |class, payload_bytes| encoded("t", class, payload_bytes);
    let mut outbox = Outbox::new(OutboxLimits::default(), true);
    let (plain, transient) = (event(DeliveryClass::Reliable, 50), event(DeliveryClass::Transient, 50));
    for _ in 0..300 {
        assert_eq!(outbox.push(&OutboundEvent::new(&plain.0, &plain.1)), Pushed::Queued);
    }
    let _ = outbox.drain(&mut Chunks::default(), usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
    let used = measure(|| {
        for _ in 0..1_000 {
            for (head, bytes) in [&plain, &transient] {
                assert_eq!(outbox.push(&OutboundEvent::new(head, bytes)), Pushed::Queued);
            }
        }
    });
    assert!(used.bytes_current < 1 << 20, "{} bytes for {}", used.bytes_current, outbox.bytes());

    let mut outboxes: Vec<Outbox> = (0..100).map(|_| Outbox::new(OutboxLimits::default(), true)).collect();
    let large = event(DeliveryClass::Reliable, 1 << 20);
    let used = measure(|| {
        let event = OutboundEvent::new(&large.0, &large.1);
        for outbox in &mut outboxes {
            assert_eq!(outbox.push(&event), Pushed::Queued);
        }
    });
    assert!(used.bytes_max < 2 << 20, "{} bytes", used.bytes_max);
}

/// Behind a delivery that waits for long, events of all sizes come and give way, one at a time and many at once.
#[test]
fn the_places_of_dropped_events_do_not_pile_up() {
    let outbound = |class, payload_bytes| encoded("t", class, payload_bytes);
    let push =
        |outbox: &mut Outbox, (head, bytes): &(EventHead, Vec<u8>)| outbox.push(&OutboundEvent::new(head, bytes));
    let limits = OutboxLimits { deliveries_max: 8, bytes_max: 1_000, ..OutboxLimits::default() };
    let mut outbox = Outbox::new(limits, false);
    assert_eq!(push(&mut outbox, &outbound(DeliveryClass::Reliable, 1)), Pushed::Queued);
    let (small, large) = (outbound(DeliveryClass::Transient, 1), outbound(DeliveryClass::Transient, 900));
    let used = measure(|| {
        for round in 0..20_000 {
            let event = if round % 9 == 0 { &large } else { &small };
            assert_eq!(push(&mut outbox, event), Pushed::Queued);
        }
    });
    assert!(used.bytes_max < 64 << 10, "{} bytes", used.bytes_max);
}
