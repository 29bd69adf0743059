//! How sessions begin, replace each other, fall behind and end.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{DeliveryClass, ErrorCode};

use crate::raw::{Peer, World, hello};

crate::with_one_and_two_workers! {
    the_newer_run_of_a_client_wins
    a_welcome_means_that_the_replaced_session_hears_nothing_any_more
    a_stream_that_is_reset_ends_the_session
    what_was_published_before_a_goodbye_is_routed
    what_was_matched_before_a_lane_broke_arrives
    a_goodbye_that_waits_for_a_slow_receiver_holds_up_no_successor
    a_frozen_reader_is_ended_and_its_neighbours_are_served
    transient_events_are_dropped_oldest_first_and_shown
    a_reader_that_dribbles_is_ended_too
    many_publishers_do_not_overrun_a_reader_that_reads
    transient_floods_hold_nobody_back
    shutdown_tells_drains_and_ends
    whoever_is_cut_off_at_the_end_of_the_grace_is_told
}

async fn the_newer_run_of_a_client_wins(workers: usize) {
    let world = World::new(workers).await;
    for incarnation in [5, 5, 6] {
        let mut older = world.client_run("server", 5).await;
        let mut newer = world.client_run("server", incarnation).await;
        match older.next().await {
            server_frame::Frame::GoAway(go_away) => assert_eq!(go_away.code(), ErrorCode::SessionReplaced),
            other => panic!("{other:?}"),
        }
        assert_eq!(older.closed().await.0, ErrorCode::SessionReplaced);
        newer.listen(1, "mine", "").await.unwrap();
        let event = newer.event_on("mine");
        assert_eq!(newer.publish(event).await, Ok(1));
        if incarnation == 6 {
            let mut stale = Peer::open(world.connection().await).await;
            stale.send(client_frame::Frame::Hello(hello("server", 5))).await;
            assert_eq!(stale.closed().await.0, ErrorCode::StaleIncarnation);
        }
    }
}

async fn a_welcome_means_that_the_replaced_session_hears_nothing_any_more(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    for incarnation in 1..20 {
        // The older one is alive but reads nothing: its last words must not hold up the newer one.
        let mut older = world.client_run("server", incarnation).await;
        older.listen(1, "mine", "").await.unwrap();
        let mut newer = world.client_run("server", incarnation + 1).await;
        let event = publisher.event_on("mine");
        assert_eq!(publisher.publish(event).await, Ok(0));
        newer.listen(1, "mine", "").await.unwrap();
        let event = publisher.event_on("mine");
        assert_eq!(publisher.publish(event).await, Ok(1));
    }
}

async fn a_stream_that_is_reset_ends_the_session(workers: usize) {
    let world = World::new(workers).await;
    let mut on_control = world.client("control").await;
    on_control.control.reset(7_u32.into()).unwrap();
    assert_eq!(on_control.closed().await.0, ErrorCode::MalformedFrame);
    let mut on_lane = world.client("lane").await;
    on_lane.write_lane(&[9, 1]).await;
    on_lane.lane().reset(7_u32.into()).unwrap();
    assert_eq!(on_lane.closed().await.0, ErrorCode::MalformedFrame);
    let mut stopped = world.client("stopped").await;
    stopped.listen(1, "mine", "").await.unwrap();
    let event = stopped.event_on("mine");
    assert_eq!(stopped.publish(event).await, Ok(1));
    stopped.received().await;
    stopped.stop_deliveries();
    let event = stopped.event_on("mine");
    stopped.write_publish(wire::Publish { event: event.encode_to_vec().into(), ..Default::default() }).await;
    assert_eq!(stopped.closed().await.0, ErrorCode::MalformedFrame);
}

async fn what_was_published_before_a_goodbye_is_routed(workers: usize) {
    const EVENTS: u64 = 2_000;
    let world = World::new(workers).await;
    let (mut publisher, mut receiver) = (world.client("publisher").await, world.client("receiver").await);
    receiver.listen(1, "last.words", "").await.unwrap();
    let leaving = async {
        for _ in 0..EVENTS {
            let event = publisher.event_on("last.words").encode_to_vec().into();
            publisher.write_publish(wire::Publish { event, ..Default::default() }).await;
        }
        let lane = publisher.finish_lane();
        lane.stopped().await.unwrap();
        publisher.send(client_frame::Frame::Goodbye(wire::Goodbye {})).await;
        assert_eq!(publisher.closed().await.0, ErrorCode::Unspecified);
    };
    let receiving = async {
        for _ in 0..EVENTS {
            receiver.received().await;
        }
    };
    tokio::join!(leaving, receiving);
}

async fn what_was_matched_before_a_lane_broke_arrives(workers: usize) {
    let world = World::new(workers).await;
    // Enough receivers to be on every worker.
    let mut receivers = Vec::new();
    for number in 0..12 {
        let mut receiver = world.client(&format!("receiver-{number}")).await;
        receiver.listen(1, "last", "").await.unwrap();
        receivers.push(receiver);
    }
    let mut publisher = world.client("publisher").await;
    let event = publisher.event_on("last").encode_to_vec().into();
    let publish = wire::Publish { event, ..Default::default() };
    let mut bytes = bytes::BytesMut::new();
    zonecast_protocol::codec::encode_client_frame(client_frame::Frame::Publish(publish), &mut bytes);
    bytes.extend_from_slice(&[3, 0xa2, 0x06, 0x00]);
    publisher.write_lane(&bytes).await;
    assert_eq!(publisher.closed().await.0, ErrorCode::UnknownFrame);
    for receiver in &mut receivers {
        receiver.received().await;
    }
}

async fn a_goodbye_that_waits_for_a_slow_receiver_holds_up_no_successor(workers: usize) {
    let world = World::with(workers, |config| config.outbox.bytes_soft = 64 << 10).await;
    let mut deaf = world.client("deaf").await;
    deaf.listen(1, "flood", "").await.unwrap();
    let mut leaver = world.client("leaver").await;
    tokio::select! {
        () = flood(&mut leaver, "flood", 8192) => panic!("it should be held back"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    leaver.send(client_frame::Frame::Goodbye(wire::Goodbye {})).await;
    leaver.connection.close(0_u32.into(), b"enough");
    let begun = std::time::Instant::now();
    world.client_run("leaver", 2).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the deadline of the slow one is 10 s");
}

/// Publishes to the topic until the broker no longer takes it, for want of credit.
pub(crate) async fn flood(publisher: &mut Peer, topic: &str, events: u32) {
    for _ in 0..events {
        let event = wire::Event { payload: Bytes::from(vec![0; 8192]), ..publisher.event_on(topic) };
        let event = event.encode_to_vec().into();
        publisher.write_publish(wire::Publish { event, ..Default::default() }).await;
    }
}

async fn a_frozen_reader_is_ended_and_its_neighbours_are_served(workers: usize) {
    let world = World::with(workers, |config| {
        config.connections.slow_consumer_timeout = Duration::from_millis(500);
        config.outbox.bytes_soft = 1 << 20;
        config.outbox.bytes_max = 4 << 20;
    })
    .await;
    let mut frozen = world.client("frozen").await;
    frozen.listen(1, "flood", "").await.unwrap();
    let mut reader = world.client("reader").await;
    reader.listen(1, "calm", "").await.unwrap();
    let (mut flooder, mut calm) = (world.client("flooder").await, world.client("calm").await);
    let served = async {
        for _ in 0..200 {
            let event = calm.event_on("calm");
            assert_eq!(calm.publish(event).await, Ok(1));
            reader.received().await;
        }
    };
    // 64 MiB for one who reads nothing: windows, outbox and lane fill, and the flooder is held back until the end.
    tokio::join!(flood(&mut flooder, "flood", 8192), served);
    match frozen.next().await {
        server_frame::Frame::GoAway(go_away) => assert_eq!(go_away.code(), ErrorCode::SlowConsumer),
        other => panic!("{other:?}"),
    }
    assert_eq!(frozen.closed().await.0, ErrorCode::SlowConsumer);
    let event = flooder.event_on("flood");
    assert_eq!(flooder.publish(event).await, Ok(0), "the flooder is free again, and nobody listens");
}

async fn transient_events_are_dropped_oldest_first_and_shown(workers: usize) {
    let world = World::with(workers, |config| config.outbox.deliveries_max = 50).await;
    let (mut publisher, mut receiver) = (world.client("publisher").await, world.client("receiver").await);
    receiver.listen(1, "noise", "").await.unwrap();
    const EVENTS: u64 = 3_000;
    for _ in 0..EVENTS {
        let event = wire::Event {
            class: DeliveryClass::Transient.into(),
            payload: Bytes::from(vec![0; 16 << 10]),
            ..publisher.event_on("noise")
        };
        let event = event.encode_to_vec().into();
        publisher.write_publish(wire::Publish { event, ..Default::default() }).await;
    }
    let last = publisher.event_on("noise");
    publisher.publish(last).await.unwrap();
    let (mut seen, mut missing, mut next) = (0, 0, 1);
    while next <= EVENTS + 1 {
        match receiver.next_delivery().await {
            server_frame::Frame::Deliver(deliver) => {
                assert_eq!(deliver.seq, next, "a jump is announced");
                (seen, next) = (seen + 1, next + 1);
            }
            server_frame::Frame::Gap(gap) => {
                assert_eq!(gap.from_seq, next);
                assert_eq!(gap.reason(), wire::GapReason::SlowConsumer);
                missing += gap.to_seq - gap.from_seq + 1;
                next = gap.to_seq + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen + missing, EVENTS + 1, "all are accounted for");
    assert!(missing > 0, "48 MiB do not fit into windows and 50 places");
}

async fn shutdown_tells_drains_and_ends(workers: usize) {
    let world = World::new(workers).await;
    let (mut publisher, mut receiver) = (world.client("publisher").await, world.client("receiver").await);
    receiver.listen(1, "work", "").await.unwrap();
    for _ in 0..100 {
        let event = publisher.event_on("work");
        publisher.publish(event).await.unwrap();
    }
    let address = world.broker.local_addr();
    let stopping = tokio::spawn(world.broker.shutdown());
    for _ in 0..100 {
        receiver.received().await;
    }
    for peer in [&mut publisher, &mut receiver] {
        match peer.next().await {
            server_frame::Frame::GoAway(go_away) => {
                assert_eq!(go_away.code(), ErrorCode::ShuttingDown);
                assert!(go_away.reconnect_after_ms > 0);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(peer.closed().await.0, ErrorCode::ShuttingDown);
    }
    stopping.await.unwrap();
    std::net::UdpSocket::bind(address).expect("the port is free again");
}

async fn a_reader_that_dribbles_is_ended_too(workers: usize) {
    let world = World::with(workers, |config| {
        config.connections.slow_consumer_timeout = Duration::from_millis(500);
        config.outbox.bytes_soft = 1 << 20;
    })
    .await;
    let mut dribbler = world.client("dribbler").await;
    dribbler.listen(1, "flood", "").await.unwrap();
    let mut flooder = world.client("flooder").await;
    let dribbling = async {
        // One frame every quarter of the deadline: each is progress, all together are far too slow.
        let mut tick = tokio::time::interval(Duration::from_millis(125));
        dribbler.accept_deliveries().await;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    dribbler.read_some_deliveries().await;
                }
                closed = dribbler.closed() => return closed,
            }
        }
    };
    let ((code, _), ()) = tokio::join!(dribbling, flood(&mut flooder, "flood", 8192));
    assert_eq!(code, ErrorCode::SlowConsumer);
}

async fn many_publishers_do_not_overrun_a_reader_that_reads(workers: usize) {
    const EACH: u32 = 3_000;
    let world = World::with(workers, |config| {
        config.outbox.deliveries_soft = 1_000;
        config.outbox.deliveries_max = 15_000;
    })
    .await;
    let mut reader = world.client("reader").await;
    reader.listen(1, "work", "").await.unwrap();
    let mut publishing = tokio::task::JoinSet::new();
    for number in 0..8_u32 {
        let mut publisher = world.client(&format!("publisher-{number}")).await;
        publishing.spawn(async move {
            for key in 0..EACH {
                let state = wire::Event {
                    class: DeliveryClass::State.into(),
                    key: format!("{number}-{key}"),
                    ..publisher.event_on("work")
                };
                let event = if key % 2 == 0 { state } else { wire::Event { key: String::new(), class: 1, ..state } };
                let event = event.encode_to_vec().into();
                publisher.write_publish(wire::Publish { event, ..Default::default() }).await;
            }
            let last = publisher.event_on("nobody");
            assert_eq!(publisher.publish(last).await, Ok(0));
        });
    }
    for _ in 0..8 * EACH {
        reader.received().await;
    }
    while let Some(done) = publishing.join_next().await {
        done.unwrap();
    }
}

async fn transient_floods_hold_nobody_back(workers: usize) {
    let world = World::with(workers, |config| {
        config.outbox.deliveries_soft = 10;
        config.connections.slow_consumer_timeout = Duration::from_secs(60);
    })
    .await;
    let (mut noisy, mut calm) = (world.client("noisy").await, world.client("calm").await);
    let mut deaf = world.client("deaf").await;
    deaf.listen(1, "noise", "").await.unwrap();
    for _ in 0..1_000 {
        let noise = wire::Event {
            class: DeliveryClass::Transient.into(),
            payload: Bytes::from(vec![0; 16 << 10]),
            ..noisy.event_on("noise")
        };
        let event = noise.encode_to_vec().into();
        noisy.write_publish(wire::Publish { event, ..Default::default() }).await;
    }
    for _ in 0..5 {
        let event = calm.event_on("noise");
        assert_eq!(calm.publish(event).await, Ok(1), "the session takes reliable events still");
    }
}

async fn whoever_is_cut_off_at_the_end_of_the_grace_is_told(workers: usize) {
    let world = World::with(workers, |config| config.shutdown_grace = Duration::from_millis(300)).await;
    let mut deaf = world.client("deaf").await;
    deaf.listen(1, "flood", "").await.unwrap();
    let mut flooder = world.client("flooder").await;
    tokio::select! {
        () = flood(&mut flooder, "flood", 8192) => panic!("it should be held back"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    world.broker.shutdown().await;
    assert_eq!(deaf.closed().await.0, ErrorCode::ShuttingDown);
}
