//! Events reach whom they should, once, and the publisher learns how many that were.

use std::time::{Duration, Instant};

use bytes::Bytes;
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{DeliveryClass, ErrorCode};

use crate::raw::{Peer, World, hello, zone};

crate::with_one_and_two_workers! {
    an_event_reaches_each_touched_session_once
    kinds_filter_and_publishers_may_be_left_out
    topics_reach_patterns_and_one_of_a_group
    a_question_is_answered_over_the_inbox
    many_clients_hear_each_other_across_workers
    deliveries_keep_the_order_of_their_lane
    deliveries_wait_for_others_where_the_receiver_asks
    state_keeps_the_latest_of_each_key
}

fn with_payload(event: wire::Event, payload: &'static str) -> wire::Event {
    wire::Event { payload: Bytes::from_static(payload.as_bytes()), ..event }
}

async fn an_event_reaches_each_touched_session_once(workers: usize) {
    let world = World::new(workers).await;
    let (mut west, mut east, mut publisher) =
        (world.client("west").await, world.client("east").await, world.client("publisher").await);
    west.put_zones(vec![zone(1, "earth", [0.0, 0.0], [100.0, 100.0]), zone(2, "earth", [50.0, 50.0], [150.0, 150.0])])
        .await
        .unwrap();
    east.put_zones(vec![zone(1, "earth", [600.0, 0.0], [700.0, 100.0])]).await.unwrap();
    let at = |x: f64, radius: f64, payload| (x, radius, payload);
    for (x, radius, payload, matched) in [
        (90.0, 0.0, "both zones of west", 1),
        (300.0, 100.0, "nobody: 100 short of west's corner zone", 0),
        (350.0, 250.0, "touches both edges", 2),
        (701.0, 0.5, "past the east", 0),
    ]
    .map(|(x, radius, payload, matched)| {
        let (x, radius, payload) = at(x, radius, payload);
        (x, radius, payload, matched)
    }) {
        let event = with_payload(publisher.event_at("earth", x, 75.0, radius), payload);
        assert_eq!(publisher.publish(event).await, Ok(matched), "{payload}");
    }
    let elsewhere = publisher.event_at("mars", 90.0, 75.0, 10.0);
    assert_eq!(publisher.publish(elsewhere).await, Ok(0), "worlds never meet");
    let last = with_payload(publisher.event_at("earth", 350.0, 75.0, 500.0), "last");
    assert_eq!(publisher.publish(last).await, Ok(2));
    assert_eq!(west.received().await, "both zones of west");
    assert_eq!(west.received().await, "touches both edges");
    assert_eq!(west.received().await, "last");
    assert_eq!(east.received().await, "touches both edges");
    assert_eq!(east.received().await, "last");
}

async fn kinds_filter_and_publishers_may_be_left_out(workers: usize) {
    let world = World::new(workers).await;
    let mut client = world.client("server").await;
    let mut filtered = zone(1, "earth", [0.0, 0.0], [1.0, 1.0]);
    filtered.kinds = vec!["fire".to_owned(), "flood".to_owned()];
    client.put_zones(vec![filtered]).await.unwrap();
    for (kind, matched) in [("fire", 1), ("flood", 1), ("shout", 0), ("", 0)] {
        let event = wire::Event { kind: kind.to_owned(), ..client.event_at("earth", 0.5, 0.5, 0.0) };
        assert_eq!(client.publish(event).await, Ok(matched), "{kind:?}");
    }
    let event = wire::Event { kind: "fire".to_owned(), ..client.event_at("earth", 0.5, 0.5, 0.0) };
    let publish = wire::Publish {
        ack: zonecast_protocol::AckLevel::Routed.into(),
        exclude_self: true,
        event: prost::Message::encode_to_vec(&event).into(),
        ..Default::default()
    };
    assert_eq!(client.publish_frame(publish).await, Ok(0));
}

async fn topics_reach_patterns_and_one_of_a_group(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let mut all = world.client("all").await;
    all.listen(1, ">", "").await.unwrap();
    all.listen(2, "users.*", "").await.unwrap();
    let mut mailers = Vec::new();
    for name in ["mailer-1", "mailer-2", "mailer-3"] {
        let mut mailer = world.client(name).await;
        mailer.listen(7, "users.created", "mailers").await.unwrap();
        mailers.push(mailer);
    }
    for _ in 0..6 {
        let event = publisher.event_on("users.created");
        assert_eq!(publisher.publish(event).await, Ok(2), "one for all, one of the mailers");
    }
    let event = with_payload(publisher.event_on("users.deleted"), "deleted");
    assert_eq!(publisher.publish(event).await, Ok(1));
    for mailer in &mut mailers {
        mailer.received().await;
        mailer.received().await;
    }
    for _ in 0..6 {
        all.received().await;
    }
    assert_eq!(all.received().await, "deleted");
    let update = wire::UpdateTopics { request_id: all.request_id(), add: vec![], remove: vec![1, 2] };
    all.request(client_frame::Frame::UpdateTopics(update)).await.unwrap();
    let event = publisher.event_on("users.deleted");
    assert_eq!(publisher.publish(event).await, Ok(0));
}

async fn a_question_is_answered_over_the_inbox(workers: usize) {
    let world = World::new(workers).await;
    let (mut asker, mut answerer) = (world.client("asker").await, world.client("answerer").await);
    let inbox = format!("_inbox.{:016x}", asker.source);
    asker.listen(1, &format!("{inbox}.>"), "").await.unwrap();
    let foreign = format!("_inbox.{:016x}.>", answerer.source);
    assert_eq!(asker.listen(2, &foreign, "").await, Err(ErrorCode::PermissionDenied), "others' replies are theirs");
    let ask = |asker: &crate::raw::Peer| wire::Event { reply_to: format!("{inbox}.1"), ..asker.event_on("svc.echo") };
    let event = ask(&asker);
    assert_eq!(asker.publish(event).await, Ok(0), "nobody answers there, and that is known at once");
    answerer.listen(1, "svc.*", "echoers").await.unwrap();
    let event = ask(&asker);
    assert_eq!(asker.publish(event).await, Ok(1));
    let question = match answerer.next_delivery().await {
        server_frame::Frame::Deliver(deliver) => <wire::Event as prost::Message>::decode(deliver.event).unwrap(),
        other => panic!("{other:?}"),
    };
    let reply = with_payload(answerer.event_on(&question.reply_to), "echo");
    assert_eq!(answerer.publish(reply).await, Ok(1));
    assert_eq!(asker.received().await, "echo");
}

async fn many_clients_hear_each_other_across_workers(workers: usize) {
    let world = World::new(workers).await;
    let mut clients = Vec::new();
    for number in 0..16_u32 {
        let mut client = world.client(&format!("server-{number}")).await;
        let west = f64::from(number) * 10.0;
        client.put_zones(vec![zone(1, "earth", [west, 0.0], [west + 10.0, 10.0])]).await.unwrap();
        clients.push(client);
    }
    // Each event lies in the middle of a zone and reaches its neighbours' edges: 3 zones, at the ends of the row 2.
    for number in 0..clients.len() {
        let event = clients[number].event_at("earth", f64::from(u32::try_from(number).unwrap()) * 10.0 + 5.0, 5.0, 5.0);
        let expected = if number == 0 || number == clients.len() - 1 { 2 } else { 3 };
        assert_eq!(clients[number].publish(event).await, Ok(expected));
    }
    let count = clients.len();
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = if number == 0 || number == count - 1 { 2 } else { 3 };
        for _ in 0..expected {
            client.received().await;
        }
    }
}

async fn deliveries_keep_the_order_of_their_lane(workers: usize) {
    const EVENTS: u64 = 5_000;
    let world = World::new(workers).await;
    let (mut publisher, mut receiver) = (world.client("publisher").await, world.client("receiver").await);
    receiver.listen(1, "count", "").await.unwrap();
    let publishing = async {
        for _ in 0..EVENTS {
            let event = publisher.event_on("count");
            let event = prost::Message::encode_to_vec(&event).into();
            publisher.write_publish(wire::Publish { event, ..Default::default() }).await;
        }
    };
    let receiving = async {
        for expected in 1..=EVENTS {
            match receiver.next_delivery().await {
                server_frame::Frame::Deliver(deliver) => {
                    let event: wire::Event = prost::Message::decode(deliver.event).unwrap();
                    assert_eq!((deliver.seq, event.lane_seq), (expected, expected));
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(publishing, receiving);
}

/// However long it asks for, and only who asks.
async fn deliveries_wait_for_others_where_the_receiver_asks(workers: usize) {
    let world = World::new(workers).await;
    let mut publisher = world.client("publisher").await;
    let hello = wire::Hello { coalesce_ms: 100_000, ..hello("patient", 1) };
    let mut patient = Peer::welcomed(world.connection().await, hello).await;
    let mut hasty = world.client("hasty").await;
    for receiver in [&mut patient, &mut hasty] {
        receiver.listen(1, "t", "").await.unwrap();
    }
    let begun = Instant::now();
    for _ in 0..2 {
        let event = publisher.event_on("t");
        assert_eq!(publisher.publish(event).await, Ok(2));
        assert!(matches!(hasty.next_delivery().await, server_frame::Frame::Deliver(_)));
    }
    // Unless the machine stood still for so long, both were published while the first was waiting.
    let published = begun.elapsed();
    assert!(matches!(patient.next_delivery().await, server_frame::Frame::Deliver(_)));
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(100), "{waited:?}, {published:?}");
    assert!(waited < Duration::from_secs(50), "100 ms is the most");
    assert!(matches!(patient.next_delivery().await, server_frame::Frame::Deliver(_)));
    // Enough for a write of its own does not wait. A busy machine may be as slow, but not each time.
    let mut quickest = Duration::MAX;
    for _ in 0..100 {
        let begun = Instant::now();
        for _ in 0..2 {
            let event = wire::Event { payload: vec![7; 40 << 10].into(), ..publisher.event_on("t") };
            assert_eq!(publisher.publish(event).await, Ok(2));
        }
        for _ in 0..2 {
            assert!(matches!(patient.next_delivery().await, server_frame::Frame::Deliver(_)));
        }
        quickest = quickest.min(begun.elapsed());
        if quickest < Duration::from_millis(90) {
            return;
        }
    }
    panic!("{quickest:?} at the least");
}

async fn state_keeps_the_latest_of_each_key(workers: usize) {
    let world = World::new(workers).await;
    let (mut publisher, mut receiver) = (world.client("publisher").await, world.client("receiver").await);
    receiver.listen(1, "weather", "").await.unwrap();
    let state = |publisher: &crate::raw::Peer, key: &str, payload: &'static str| {
        let event = with_payload(publisher.event_on("weather"), payload);
        wire::Event { class: DeliveryClass::State.into(), key: key.to_owned(), ..event }
    };
    for (key, payload) in [("north", "rain"), ("south", "sun"), ("north", "snow")] {
        let event = state(&publisher, key, payload);
        publisher.publish(event).await.unwrap();
    }
    // Whether an older value was still waiting is a matter of timing; the latest of each key always comes.
    let mut latest = std::collections::BTreeMap::new();
    while latest.get("north").is_none_or(|value| *value != "snow") || !latest.contains_key("south") {
        match receiver.next_delivery().await {
            server_frame::Frame::Deliver(deliver) => {
                let event: wire::Event = prost::Message::decode(deliver.event).unwrap();
                latest.insert(event.key, event.payload);
            }
            other => panic!("{other:?}"),
        }
    }
}
