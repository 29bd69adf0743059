//! Sessions that outlive their links.

use prost::Message;
use zonecast_protocol::codec::decode_server_frame;
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{AckLevel, DeliveryClass, ErrorCode};

use crate::raw::{Peer, World, zone};
use crate::reliability::{ack, answer, delivery, lasting_hello, processed};

crate::with_one_and_two_workers! {
    a_resumed_session_goes_on_where_it_stood
    a_welcome_that_is_lost_costs_nothing
    a_session_that_is_not_resumed_inherits_what_was_not_received
    what_kills_one_run_after_the_other_is_given_up
    a_session_that_nobody_resumes_ends
    lost_transient_events_are_shown
    answers_find_a_publisher_that_has_moved
    zones_go_to_who_is_there_and_the_news_survives_the_link
    a_client_that_acknowledges_nothing_is_ended
    when_memory_is_full_the_largest_queue_goes
}

const ZONE: [[f64; 2]; 2] = [[0.0, 0.0], [10.0, 10.0]];

/// A welcomed client whose session lasts, and its welcome.
async fn lasting(world: &World, hello: wire::Hello) -> (Peer, wire::Welcome) {
    Peer::opened(world.connection().await, hello).await
}

/// A client with a lasting session and a zone.
async fn server(world: &World, name: &str) -> (Peer, wire::Welcome) {
    let (mut peer, welcome) = lasting(world, lasting_hello(name, 1)).await;
    assert!(!welcome.resumed);
    assert_eq!(welcome.resume_window_ms, 30_000);
    peer.put_zones(vec![zone(1, "earth", ZONE[0], ZONE[1])]).await.unwrap();
    (peer, welcome)
}

fn cut(peer: &Peer) {
    peer.connection.close(0_u32.into(), b"cut");
}

async fn publish(publisher: &mut Peer) -> Result<u32, ErrorCode> {
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.publish(event).await
}

fn lane_seq(deliver: &wire::Deliver) -> u64 {
    wire::Event::decode(deliver.event.clone()).unwrap().lane_seq
}

async fn a_resumed_session_goes_on_where_it_stood(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let (mut first, welcome) = server(&world, "server").await;
    for _ in 0..3 {
        assert_eq!(publish(&mut publisher).await, Ok(1));
    }
    for seq in 1..=3 {
        assert_eq!(delivery(&mut first).await.seq, seq);
    }
    first.send(ack(1, &[])).await;
    assert_eq!(publish_own(&mut first).await, (1, Ok(0)));
    cut(&first);
    assert_eq!(publish(&mut publisher).await, Ok(1), "its zones are held without a link");

    let hello = wire::Hello {
        resume_session_id: welcome.session_id,
        delivered_through: 2,
        lanes: vec![wire::LanePosition { lane: 0, lane_seq: 1 }],
        control_through: 1,
        ..lasting_hello("server", 1)
    };
    let (mut second, welcome) = lasting(&world, hello).await;
    assert!(welcome.resumed);
    assert_eq!(welcome.lanes, [wire::LanePosition { lane: 0, lane_seq: 1 }]);
    assert_eq!(welcome.last_request_id, 1);
    assert_eq!(answer(second.next().await), (1, Ok(0)), "the answer that was not confirmed comes again");
    assert_eq!(publish(&mut publisher).await, Ok(1));
    let deliveries = [delivery(&mut second).await, delivery(&mut second).await, delivery(&mut second).await];
    assert_eq!(deliveries.each_ref().map(|deliver| deliver.seq), [1, 2, 3], "numbered anew");
    assert_eq!(deliveries.each_ref().map(lane_seq), [3, 4, 5], "first the old ones, then the new");
    // The second may have been written to the link that was just cut.
    assert!(deliveries[0].resent && !deliveries[2].resent);
    // Its ids and numbers go on.
    let remove = wire::UpdateZones { request_id: 2, remove: vec![1], ..Default::default() };
    second.send(client_frame::Frame::UpdateZones(remove)).await;
    assert!(matches!(second.next().await, server_frame::Frame::InterestApplied(applied) if applied.request_id == 2));
    assert_eq!(publish(&mut publisher).await, Ok(0));
}

async fn a_welcome_that_is_lost_costs_nothing(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let (mut first, welcome) = server(&world, "server").await;
    assert_eq!(publish(&mut publisher).await, Ok(1));
    let _ = delivery(&mut first).await;
    cut(&first);
    let hello = wire::Hello { resume_session_id: welcome.session_id, control_through: 1, ..lasting_hello("server", 1) };
    // The client gives these up before it has read a word of them, and names the session that it knows.
    for _ in 0..2 {
        let (unread, welcome) = lasting(&world, hello.clone()).await;
        assert!(welcome.resumed);
        cut(&unread);
    }
    assert_eq!(publish(&mut publisher).await, Ok(1), "its zones are held all the while");
    let (mut last, welcome) = lasting(&world, hello).await;
    assert!(welcome.resumed);
    for number in 1..=2 {
        let deliver = delivery(&mut last).await;
        assert_eq!((deliver.seq, lane_seq(&deliver)), (number, number));
    }
}

/// Publishes to nobody, and returns the answer.
async fn publish_own(peer: &mut Peer) -> (u64, Result<u32, ErrorCode>) {
    let event = peer.event_on("nobody");
    let publish =
        wire::Publish { ack: AckLevel::Routed.into(), event: event.encode_to_vec().into(), ..Default::default() };
    peer.write_publish(publish).await;
    answer(peer.next().await)
}

async fn a_session_that_is_not_resumed_inherits_what_was_not_received(workers: usize) {
    for incarnation in 1..=2 {
        inherits_what_was_not_received(workers, incarnation).await;
    }
}

async fn inherits_what_was_not_received(workers: usize, incarnation: u64) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let (mut first, _) = server(&world, "server").await;
    for _ in 0..2 {
        assert_eq!(publish(&mut publisher).await, Ok(1));
        let _ = delivery(&mut first).await;
    }
    first.send(ack(1, &[])).await;
    first.send(client_frame::Frame::Ping(wire::Ping { nonce: 1 })).await;
    assert!(matches!(first.next().await, server_frame::Frame::Pong(_)), "the acknowledgement was read");
    cut(&first);
    assert_eq!(publish(&mut publisher).await, Ok(1), "kept for whoever comes back");
    let (mut second, welcome) = lasting(&world, lasting_hello("server", incarnation)).await;
    assert!(!welcome.resumed);
    for (seq, number) in [(1, 2), (2, 3)] {
        let deliver = delivery(&mut second).await;
        // The third was never written. But later ones may have come from another broker in between.
        assert_eq!((deliver.seq, lane_seq(&deliver), deliver.resent), (seq, number, true));
    }
    assert_eq!(publish(&mut publisher).await, Ok(0), "its zones are its own to ask for");
}

async fn what_kills_one_run_after_the_other_is_given_up(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let (mut run, _) = server(&world, "server").await;
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&event)).await;
    for incarnation in 2..=3 {
        assert!(delivery(&mut run).await.await_processing);
        cut(&run);
        (run, _) = lasting(&world, lasting_hello("server", incarnation)).await;
    }
    assert!(delivery(&mut run).await.resent);
    cut(&run);
    let (mut last, _) = lasting(&world, lasting_hello("server", 4)).await;
    match last.next_delivery().await {
        server_frame::Frame::Gap(gap) => {
            assert_eq!((gap.from_seq, gap.to_seq, gap.reason()), (1, 1, wire::GapReason::Evicted));
        }
        other => panic!("{other:?} instead of a gap"),
    }
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Err(ErrorCode::Poison)));
}

async fn a_session_that_nobody_resumes_ends(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let hello = wire::Hello { resume_window_ms: 100, ..lasting_hello("server", 1) };
    let (mut server, _) = lasting(&world, hello).await;
    server.put_zones(vec![zone(1, "earth", ZONE[0], ZONE[1])]).await.unwrap();
    cut(&server);
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&event)).await;
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Err(ErrorCode::SessionLost)));
    assert_eq!(publish(&mut publisher).await, Ok(0));
}

async fn lost_transient_events_are_shown(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let (mut first, welcome) = server(&world, "server").await;
    for class in [DeliveryClass::Transient, DeliveryClass::Reliable, DeliveryClass::Transient] {
        let event = wire::Event { class: class.into(), ..publisher.event_at("earth", 1.0, 1.0, 1.0) };
        assert_eq!(publisher.publish(event).await, Ok(1));
    }
    for (seq, number) in [(1, 1), (3, 3)] {
        let datagram = first.connection.read_datagram().await.unwrap();
        match decode_server_frame(datagram).unwrap() {
            server_frame::Frame::Deliver(deliver) => assert_eq!((deliver.seq, lane_seq(&deliver)), (seq, number)),
            other => panic!("{other:?} in a datagram"),
        }
    }
    let explained = |frame| match frame {
        server_frame::Frame::Datagrams(datagrams) => (datagrams.from_seq, datagrams.to_seq),
        other => panic!("{other:?} instead of what explains a datagram"),
    };
    assert_eq!(explained(first.next_delivery().await), (1, 1), "before what comes after it");
    assert_eq!(delivery(&mut first).await.seq, 2);
    assert_eq!(explained(first.next_delivery().await), (3, 3), "soon, though nothing comes after it");
    cut(&first);
    // As if the link had been lost before any of that had come, but for the first datagram.
    let hello = wire::Hello {
        resume_session_id: welcome.session_id,
        control_through: 1,
        datagrams: vec![1],
        ..lasting_hello("server", 1)
    };
    let (mut second, welcome) = lasting(&world, hello).await;
    assert!(welcome.resumed);
    let reliable = delivery(&mut second).await;
    assert_eq!((reliable.seq, lane_seq(&reliable), reliable.resent), (1, 2, true));
    match second.next_delivery().await {
        server_frame::Frame::Gap(gap) => {
            assert_eq!((gap.from_seq, gap.to_seq, gap.reason()), (2, 2, wire::GapReason::Evicted));
        }
        other => panic!("{other:?} instead of a gap"),
    }
}

async fn answers_find_a_publisher_that_has_moved(workers: usize) {
    let world = World::new(workers).await;
    let (mut receiver, _) = server(&world, "server").await;
    let (mut publisher, mut welcome) = lasting(&world, lasting_hello("publisher", 1)).await;
    let event = publisher.event_at("earth", 1.0, 1.0, 1.0);
    publisher.write_publish(processed(&event)).await;
    let deliver = delivery(&mut receiver).await;
    for _ in 0..4 {
        cut(&publisher);
        let hello = wire::Hello { resume_session_id: welcome.session_id, ..lasting_hello("publisher", 1) };
        (publisher, welcome) = lasting(&world, hello).await;
        assert!(welcome.resumed);
    }
    receiver.send(ack(deliver.seq, &[deliver.seq])).await;
    assert_eq!(answer(publisher.next().await), (event.lane_seq, Ok(1)));
}

async fn zones_go_to_who_is_there_and_the_news_survives_the_link(workers: usize) {
    let world = World::new(workers).await;
    let (mut giver, _) = server(&world, "giver").await;
    let hand_over = |giver: &mut Peer, to: &str| wire::HandOverZones {
        request_id: giver.request_id(),
        zone_ids: vec![1],
        to_client_id: to.to_owned(),
    };
    let to_itself = hand_over(&mut giver, "giver");
    let refused = giver.request(client_frame::Frame::HandOverZones(to_itself)).await;
    assert_eq!(refused, Err(ErrorCode::InvalidArgument), "or it would wait for itself");

    let (mut taker, welcome) = lasting(&world, lasting_hello("taker", 1)).await;
    let to_taker = hand_over(&mut giver, "taker");
    giver.request(client_frame::Frame::HandOverZones(to_taker)).await.unwrap();
    assert!(matches!(taker.next().await, server_frame::Frame::ZonesReceived(_)));
    cut(&taker);
    // It has not said that it got the news.
    let hello = wire::Hello { resume_session_id: welcome.session_id, ..lasting_hello("taker", 1) };
    let (mut taker, welcome) = lasting(&world, hello).await;
    assert!(welcome.resumed);
    match taker.next().await {
        server_frame::Frame::ZonesReceived(received) => assert_eq!(received.zones.len(), 1),
        other => panic!("{other:?} instead of zones"),
    }
    assert_eq!(publish(&mut giver).await, Ok(1));
    let _ = delivery(&mut taker).await;

    // Back to who is not there: it stays where it is.
    cut(&giver);
    while crate::operations::metric(&world, "zonecast_sessions_without_link").await != "1" {
        tokio::task::yield_now().await;
    }
    let zone_ids = vec![2_147_483_648];
    let back = wire::HandOverZones { request_id: 1, zone_ids, to_client_id: "giver".to_owned() };
    taker.send(client_frame::Frame::HandOverZones(back)).await;
    match taker.next().await {
        server_frame::Frame::RequestRefused(refused) => assert_eq!(refused.code(), ErrorCode::UnknownClient),
        other => panic!("{other:?} instead of a refusal"),
    }
}

async fn a_client_that_acknowledges_nothing_is_ended(workers: usize) {
    let world = World::with(workers, |config| {
        config.outbox.deliveries_soft = 2;
        config.connections.slow_consumer_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let mut publisher = world.client("publisher").await;
    let (mut server, _) = server(&world, "server").await;
    for _ in 0..2 {
        assert_eq!(publish(&mut publisher).await, Ok(1));
        let _ = delivery(&mut server).await;
    }
    let (code, reason) = server.closed().await;
    assert_eq!(code, ErrorCode::SlowConsumer, "{reason}");
    assert_eq!(publish(&mut publisher).await, Ok(0));
}

async fn when_memory_is_full_the_largest_queue_goes(workers: usize) {
    const KILOBYTE: usize = 1_000;
    let world = World::with(workers, |config| {
        config.retained.bytes_soft = 600 * KILOBYTE;
        config.retained.bytes_max = 1_000 * KILOBYTE;
        // Also while memory is scarce, no session is over its mark: it is the bound of all that counts here.
        config.outbox.deliveries_soft = 10_000;
    })
    .await;
    let mut publisher = world.client("publisher").await;
    let (large, _) = filled(&world, &mut publisher, "large", 600).await;
    let (mut small, _) = filled(&world, &mut publisher, "small", 300).await;
    for _ in 0..200 {
        let event = wire::Event { payload: vec![0; KILOBYTE].into(), ..publisher.event_on("both") };
        assert!(publisher.publish(event).await.is_ok());
    }
    if workers == 1 {
        let (code, reason) = large.closed().await;
        assert_eq!(code, ErrorCode::SlowConsumer, "{reason}");
        assert!(reason.contains("memory"), "{reason}");
        let _ = delivery(&mut small).await;
        assert!(small.connection.close_reason().is_none(), "the smaller one lives");
    } else {
        // Each worker ends its own largest, and which worker a session is on is chance.
        tokio::select! {
            closed = large.closed() => assert_eq!(closed.0, ErrorCode::SlowConsumer),
            closed = small.closed() => assert_eq!(closed.0, ErrorCode::SlowConsumer),
        }
    }
}

/// A client that acknowledges nothing, with so many kilobytes.
async fn filled(world: &World, publisher: &mut Peer, name: &str, kilobytes: usize) -> (Peer, wire::Welcome) {
    let (mut peer, welcome) = lasting(world, lasting_hello(name, 1)).await;
    peer.listen(1, name, "").await.unwrap();
    peer.listen(2, "both", "").await.unwrap();
    for _ in 0..kilobytes {
        let event = wire::Event { payload: vec![0; 1_000].into(), ..publisher.event_on(name) };
        assert_eq!(publisher.publish(event).await, Ok(1));
    }
    (peer, welcome)
}
