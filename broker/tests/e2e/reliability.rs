//! Publishes that are answered when they are processed.

use std::time::{Duration, Instant};

use prost::Message;
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{AckLevel, DeliveryClass, ErrorCode};

use crate::operations::metric;
use crate::raw::{Peer, World, closed, hello, zone};

crate::with_one_and_two_workers! {
    an_event_is_processed_when_all_its_receivers_say_so
    what_hinders_processing_is_told
    nobody_can_acknowledge_what_was_never_sent
    publishes_that_wait_to_be_processed_are_bounded
    events_that_reach_too_many_are_refused
    who_publishes_faster_than_it_may_is_held_back
    who_is_stuck_holds_nobody_back_for_long
}

/// A publish whose answer waits for its receivers.
pub(crate) fn processed(event: &wire::Event) -> wire::Publish {
    wire::Publish { ack: AckLevel::Processed.into(), event: event.encode_to_vec().into(), ..Default::default() }
}

/// The next delivery, which must be one.
pub(crate) async fn delivery(peer: &mut Peer) -> wire::Deliver {
    match peer.next_delivery().await {
        server_frame::Frame::Deliver(deliver) => deliver,
        other => panic!("{other:?} instead of a delivery"),
    }
}

pub(crate) fn ack(through_seq: u64, processed: &[u64]) -> client_frame::Frame {
    client_frame::Frame::DeliveryAck(wire::DeliveryAck {
        through_seq,
        processed: processed.to_vec(),
        ..Default::default()
    })
}

async fn receiver(world: &World, name: &str) -> Peer {
    let mut peer = world.client(name).await;
    peer.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
    peer
}

/// The answer to a publish, by its number.
pub(crate) fn answer(frame: server_frame::Frame) -> (u64, Result<u32, ErrorCode>) {
    match frame {
        server_frame::Frame::PublishAck(ack) => (ack.lane_seq, Ok(ack.matched)),
        server_frame::Frame::PublishRefused(refused) => (refused.lane_seq, Err(refused.code())),
        other => panic!("{other:?} instead of an answer"),
    }
}

async fn an_event_is_processed_when_all_its_receivers_say_so(workers: usize) {
    let world = World::new(workers).await;
    let (mut first, mut second) = (receiver(&world, "first").await, receiver(&world, "second").await);
    let mut publisher = world.client("publisher").await;
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&event)).await;
    let (one, two) = (delivery(&mut first).await, delivery(&mut second).await);
    assert!(one.await_processing && two.await_processing && !one.resent);
    assert_eq!(one.event, event.encode_to_vec());
    first.send(ack(one.seq, &[one.seq])).await;
    // Receiving is not processing; and what others publish meanwhile is answered at once.
    second.send(ack(two.seq, &[])).await;
    let other = publisher.event_at("earth", 1.0, 1.0, 1.0);
    assert_eq!(publisher.publish(other).await, Ok(2), "overtakes the one that waits");
    let routed = delivery(&mut second).await;
    assert!(!routed.await_processing);
    second.send(ack(routed.seq, &[two.seq])).await;
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Ok(2)));
}

async fn what_hinders_processing_is_told(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let elsewhere = publisher.event_at("mars", 1.0, 1.0, 1.0);
    assert_eq!(publisher.publish_frame(processed(&elsewhere)).await, Ok(0), "nobody has to process it");
    for level in [AckLevel::Routed, AckLevel::Processed] {
        let event = publisher.event_at("mars", 1.0, 1.0, 1.0);
        let publish = wire::Publish { require_match: true, ack: level.into(), ..processed(&event) };
        assert_eq!(publisher.publish_frame(publish).await, Err(ErrorCode::NoMatch));
    }

    let mut server = receiver(&world, "server").await;
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&event)).await;
    let deliver = delivery(&mut server).await;
    let rejected = wire::DeliveryAck { rejected: vec![deliver.seq], ..Default::default() };
    server.send(client_frame::Frame::DeliveryAck(rejected)).await;
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Err(ErrorCode::Poison)));

    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(wire::Publish { expires_in_ms: 50, ..processed(&event) }).await;
    let late = delivery(&mut server).await;
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Err(ErrorCode::Expired)));
    // One that may wait for long does not hide the next that may not.
    let patient = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(wire::Publish { expires_in_ms: 15_000, ..processed(&patient) }).await;
    let _ = delivery(&mut server).await;
    let hasty = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(wire::Publish { expires_in_ms: 50, ..processed(&hasty) }).await;
    let second = delivery(&mut server).await;
    assert_eq!(answer(publisher.next().await), (hasty.lane_seq, Err(ErrorCode::Expired)));
    server.send(ack(0, &[second.seq - 1])).await;
    assert_eq!(answer(publisher.next().await), (patient.lane_seq, Ok(1)));
    server.send(ack(late.seq, &[late.seq])).await;

    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&event)).await;
    let _ = delivery(&mut server).await;
    server.connection.close(0_u32.into(), b"gone");
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Err(ErrorCode::SessionLost)));

    let transient = wire::Event { class: DeliveryClass::Transient.into(), ..publisher.event_on("a") };
    assert_eq!(publisher.publish_frame(processed(&transient)).await, Err(ErrorCode::InvalidArgument));
}

async fn nobody_can_acknowledge_what_was_never_sent(workers: usize) {
    let world = World::new(workers).await;
    for wrong in [
        wire::DeliveryAck { through_seq: 1, ..Default::default() },
        wire::DeliveryAck { processed: vec![7], ..Default::default() },
        wire::DeliveryAck { control_through: 1, ..Default::default() },
    ] {
        let mut peer = world.client("server").await;
        peer.send(client_frame::Frame::DeliveryAck(wrong)).await;
        let (code, reason) = closed(&peer.connection).await;
        assert_eq!(code, ErrorCode::UnexpectedFrame, "{reason}");
        assert!(reason.contains("DeliveryAck"), "{reason}");
    }
}

async fn publishes_that_wait_to_be_processed_are_bounded(workers: usize) {
    let world = World::with(workers, |config| config.sessions.unprocessed_max = 2).await;
    let mut server = receiver(&world, "server").await;
    let mut publisher = world.client("publisher").await;
    for _ in 0..2 {
        let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
        publisher.write_publish(processed(&event)).await;
    }
    let third = publisher.event_at("earth", 1.0, 1.0, 1.0);
    assert_eq!(publisher.publish_frame(processed(&third)).await, Err(ErrorCode::TooManyUnprocessed));
    let first = delivery(&mut server).await;
    server.send(ack(0, &[first.seq])).await;
    assert_eq!(answer(publisher.next().await).1, Ok(1));
    let fourth = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&fourth)).await;
    let second = delivery(&mut server).await;
    let fourth_seq = delivery(&mut server).await.seq;
    server.send(ack(0, &[fourth_seq, second.seq])).await;
    assert_eq!(answer(publisher.next().await), (fourth.lane_seq, Ok(1)), "in the order in which they are done");
}

async fn events_that_reach_too_many_are_refused(workers: usize) {
    let world = World::with(workers, |config| config.publishes.fan_out_max = 1).await;
    let _first = receiver(&world, "first").await;
    let mut publisher = world.client("publisher").await;
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    assert_eq!(publisher.publish(event).await, Ok(1));
    let _second = receiver(&world, "second").await;
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    assert_eq!(publisher.publish(event).await, Err(ErrorCode::FanOutTooLarge));
}

async fn who_publishes_faster_than_it_may_is_held_back(workers: usize) {
    let world = World::with(workers, |config| {
        config.publishes.per_second_max = 100;
        config.publishes.burst_max = 10;
    })
    .await;
    let (mut fast, mut other) = (world.client("fast").await, world.client("other").await);
    let begun = Instant::now();
    for _ in 0..30 {
        let event = fast.event_on("nobody");
        assert_eq!(fast.publish(event).await, Ok(0), "held back, not refused");
    }
    // The first ten at once; the answer to the last comes before the wait for it.
    assert!(begun.elapsed() >= Duration::from_millis(180), "{:?}", begun.elapsed());
    let held = metric(&world, "zonecast_publishers_ahead_of_rate_total").await;
    for _ in 0..10 {
        let event = other.event_on("nobody");
        assert_eq!(other.publish(event).await, Ok(0));
    }
    let held_then = metric(&world, "zonecast_publishers_ahead_of_rate_total").await;
    assert_eq!(held, held_then, "others are not held back");
}

/// One receiver acknowledges nothing; whoever publishes to it, among others, on the same lane goes on after a moment.
async fn who_is_stuck_holds_nobody_back_for_long(workers: usize) {
    let world = World::with(workers, |config| {
        config.outbox.deliveries_soft = 10;
        config.connections.hold_timeout = Duration::from_millis(100);
        config.connections.slow_consumer_timeout = Duration::from_secs(60);
    })
    .await;
    // What is kept for a resume counts until it is acknowledged.
    let mut stuck = Peer::welcomed(world.connection().await, lasting_hello("stuck", 1)).await;
    stuck.listen(1, "here", "").await.unwrap();
    let mut publisher = world.client("publisher").await;
    let let_go = async || metric(&world, "zonecast_publishers_let_go_total").await;
    let publish = async |publisher: &mut Peer, times: usize| {
        for _ in 0..times {
            let event = publisher.event_on("here");
            assert_eq!(publisher.publish(event).await, Ok(1));
        }
    };
    let begun = Instant::now();
    publish(&mut publisher, 100).await;
    assert!(begun.elapsed() >= Duration::from_millis(95), "it is waited for at first: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "each was held back: {:?}", begun.elapsed());
    assert_eq!(let_go().await, "1");
    // As soon as it moves, it is waited for again: a receiver that is slow loses nothing.
    stuck.accept_deliveries().await;
    for _ in 0..20 {
        delivery(&mut stuck).await;
    }
    stuck.send(ack(20, &[])).await;
    // The answer to a later frame of the control stream: the acknowledgement was taken.
    stuck.listen(2, "elsewhere", "").await.unwrap();
    publish(&mut publisher, 3).await;
    assert_eq!(let_go().await, "2");
}

/// A hello of a client whose session is to outlive its link.
pub(crate) fn lasting_hello(name: &str, incarnation: u64) -> wire::Hello {
    let resume_window_ms = u32::try_from(Duration::from_secs(30).as_millis()).unwrap();
    wire::Hello { resume_window_ms, ..hello(name, incarnation) }
}
