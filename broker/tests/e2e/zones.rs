//! Zones are added, moved, removed, replaced and handed over, each change as a whole.

use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{ErrorCode, HANDED_OVER_ZONE_ID_MIN};

use crate::raw::{Peer, World, zone};

crate::with_one_and_two_workers! {
    zones_move_and_go
    a_refused_change_changes_nothing
    a_hand_over_moves_zones_to_another_session
    during_hand_overs_each_event_reaches_exactly_one_holder
    an_acknowledged_change_holds_for_every_publisher
    ten_thousand_zones_with_long_names_are_handed_over
    zones_handed_to_a_client_that_comes_and_goes_are_never_orphaned
}

async fn matched_at(publisher: &mut Peer, x: f64) -> u32 {
    let event = publisher.event_at("earth", x, 5.0, 0.0);
    publisher.publish(event).await.unwrap()
}

async fn zones_move_and_go(workers: usize) {
    let world = World::new(workers).await;
    let (mut holder, mut publisher) = (world.client("holder").await, world.client("publisher").await);
    let at = |id, x: f64| zone(id, "earth", [x, 0.0], [x + 10.0, 10.0]);
    holder.put_zones(vec![at(1, 0.0), at(2, 100.0)]).await.unwrap();
    assert_eq!(matched_at(&mut publisher, 5.0).await, 1);
    holder.put_zones(vec![at(1, 50.0)]).await.unwrap();
    assert_eq!(matched_at(&mut publisher, 5.0).await, 0, "moved away");
    assert_eq!(matched_at(&mut publisher, 55.0).await, 1, "moved here");
    let remove = wire::UpdateZones { request_id: holder.request_id(), remove: vec![1], ..Default::default() };
    holder.request(client_frame::Frame::UpdateZones(remove)).await.unwrap();
    assert_eq!(matched_at(&mut publisher, 55.0).await, 0);
    let replace = wire::UpdateZones {
        request_id: holder.request_id(),
        replace_all: true,
        upsert: vec![at(7, 200.0)],
        ..Default::default()
    };
    holder.request(client_frame::Frame::UpdateZones(replace)).await.unwrap();
    assert_eq!(matched_at(&mut publisher, 105.0).await, 0, "zone 2 was not in the new set");
    assert_eq!(matched_at(&mut publisher, 205.0).await, 1);
    holder.send(client_frame::Frame::Goodbye(wire::Goodbye {})).await;
    assert_eq!(holder.closed().await.0, ErrorCode::Unspecified);
    assert_eq!(matched_at(&mut publisher, 205.0).await, 0, "a client that left holds nothing");
}

async fn a_refused_change_changes_nothing(workers: usize) {
    let world = World::with(workers, |config| config.limits.zones_per_session_max = 3).await;
    let (mut holder, mut publisher) = (world.client("holder").await, world.client("publisher").await);
    let good = |id| zone(id, "earth", [0.0, 0.0], [10.0, 10.0]);
    holder.put_zones(vec![good(1)]).await.unwrap();
    let with = |change: &dyn Fn(&mut wire::Zone)| {
        let mut zone = zone(2, "earth", [20.0, 0.0], [30.0, 10.0]);
        change(&mut zone);
        zone
    };
    let bad: [(wire::Zone, ErrorCode); 9] = [
        (with(&|z| z.min_x = f64::NAN), ErrorCode::InvalidGeometry),
        (with(&|z| z.max_y = f64::INFINITY), ErrorCode::InvalidGeometry),
        (with(&|z| z.min_x = 40.0), ErrorCode::InvalidGeometry),
        (with(&|z| z.max_x = 1e13), ErrorCode::GeometryOutOfRange),
        (with(&|z| z.world = "no such name!".into()), ErrorCode::InvalidName),
        (with(&|z| z.kinds = vec![String::new()]), ErrorCode::InvalidName),
        (with(&|z| z.kinds = vec!["k".into(); 33]), ErrorCode::TooManyZones),
        (with(&|z| z.id = 0), ErrorCode::InvalidArgument),
        (with(&|z| z.id = HANDED_OVER_ZONE_ID_MIN), ErrorCode::InvalidArgument),
    ];
    for (zone, code) in bad {
        assert_eq!(holder.put_zones(vec![good(3), zone.clone()]).await, Err(code), "{zone:?}");
    }
    assert_eq!(holder.put_zones(vec![good(4), good(4)]).await, Err(ErrorCode::DuplicateId));
    assert_eq!(holder.put_zones((2..=4).map(good).collect()).await, Err(ErrorCode::TooManyZones));
    let remove = wire::UpdateZones { request_id: holder.request_id(), remove: vec![1, 9], ..Default::default() };
    assert_eq!(holder.request(client_frame::Frame::UpdateZones(remove)).await, Err(ErrorCode::UnknownZone));
    let unnumbered = wire::UpdateZones { upsert: vec![good(2)], ..Default::default() };
    holder.send(client_frame::Frame::UpdateZones(unnumbered)).await;
    assert!(
        matches!(holder.next().await, server_frame::Frame::RequestRefused(r) if r.code() == ErrorCode::InvalidArgument)
    );
    assert_eq!(matched_at(&mut publisher, 5.0).await, 1);
    assert_eq!(matched_at(&mut publisher, 25.0).await, 0);
}

async fn hand_over(from: &mut Peer, zone_ids: Vec<u32>, to: &str) -> Result<u64, ErrorCode> {
    let request_id = from.request_id();
    let request = wire::HandOverZones { request_id, zone_ids, to_client_id: to.to_owned() };
    from.request(client_frame::Frame::HandOverZones(request)).await
}

async fn a_hand_over_moves_zones_to_another_session(workers: usize) {
    let world = World::new(workers).await;
    let (mut old, mut new) = (world.client("old").await, world.client("new").await);
    old.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 10.0]), zone(2, "earth", [0.0, 0.0], [9.0, 9.0])])
        .await
        .unwrap();
    assert_eq!(hand_over(&mut old, vec![1], "nobody").await, Err(ErrorCode::UnknownClient));
    assert_eq!(hand_over(&mut old, vec![1], "old").await, Err(ErrorCode::InvalidArgument));
    assert_eq!(hand_over(&mut old, vec![3], "new").await, Err(ErrorCode::UnknownZone));
    assert_eq!(hand_over(&mut old, vec![], "new").await, Err(ErrorCode::InvalidArgument));
    let epoch = hand_over(&mut old, vec![1, 2], "new").await.unwrap();
    let received = match new.next().await {
        server_frame::Frame::ZonesReceived(received) => received,
        other => panic!("{other:?}"),
    };
    assert_eq!((received.from_client_id.as_str(), received.epoch, received.zones.len()), ("old", epoch, 2));
    assert!(received.zones.iter().all(|zone| zone.id >= HANDED_OVER_ZONE_ID_MIN));
    let event = old.event_at("earth", 5.0, 5.0, 0.0);
    assert_eq!(old.publish(event).await, Ok(1));
    new.received().await;
    // The new holder moves what it received by the id it was told, and hands it back.
    let mut moved = received.zones[0].clone();
    moved.max_x = 99.0;
    new.put_zones(vec![moved]).await.unwrap();
    hand_over(&mut new, vec![received.zones[0].id], "old").await.unwrap();
    assert!(matches!(old.next().await, server_frame::Frame::ZonesReceived(_)));
    let event = new.event_at("earth", 98.0, 5.0, 0.0);
    assert_eq!(new.publish(event).await, Ok(1));
    old.received().await;
}

async fn during_hand_overs_each_event_reaches_exactly_one_holder(workers: usize) {
    let world = World::new(workers).await;
    let (mut a, mut b) = (world.client("a").await, world.client("b").await);
    let mut publishers = Vec::new();
    for number in 0..4 {
        publishers.push(world.client(&format!("publisher-{number}")).await);
    }
    a.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
    let mut publishing = tokio::task::JoinSet::new();
    for mut publisher in publishers {
        publishing.spawn(async move {
            for _ in 0..300 {
                assert_eq!(
                    matched_at(&mut publisher, 5.0).await,
                    1,
                    "the old holder or the new one, never both or none"
                );
            }
        });
    }
    let mut id = 1;
    while !publishing.is_empty() {
        for (from, to, name) in [(&mut a, &mut b, "b")] {
            hand_over(from, vec![id], name).await.unwrap();
            let received = match to.next().await {
                server_frame::Frame::ZonesReceived(received) => received,
                other => panic!("{other:?}"),
            };
            id = received.zones[0].id;
        }
        hand_over(&mut b, vec![id], "a").await.unwrap();
        id = match a.next().await {
            server_frame::Frame::ZonesReceived(received) => received.zones[0].id,
            other => panic!("{other:?}"),
        };
        while let Some(done) = publishing.try_join_next() {
            done.unwrap();
        }
    }
}

async fn an_acknowledged_change_holds_for_every_publisher(workers: usize) {
    let world = World::new(workers).await;
    let mut holder = world.client("holder").await;
    let mut publishers = Vec::new();
    for number in 0..8 {
        publishers.push(world.client(&format!("publisher-{number}")).await);
    }
    for step in 0..50 {
        let x = f64::from(step) * 100.0;
        holder.put_zones(vec![zone(1, "earth", [x, 0.0], [x + 10.0, 10.0])]).await.unwrap();
        for publisher in &mut publishers {
            assert_eq!(matched_at(publisher, x + 5.0).await, 1, "step {step}");
            assert_eq!(matched_at(publisher, x - 95.0).await, 0, "step {step}");
        }
    }
}

async fn ten_thousand_zones_with_long_names_are_handed_over(workers: usize) {
    // A worker that moves so many zones at once, unoptimised and on a busy machine, may be silent for seconds.
    let patience = std::time::Duration::from_secs(30);
    let world = World::with(workers, |config| config.connections.idle_timeout = patience).await;
    let (mut old, mut new) = (world.client("old").await, world.client("new").await);
    let name = "w".repeat(64);
    for thousand in 0..10 {
        let ids = (thousand * 1000 + 1)..=(thousand * 1000 + 1000);
        old.put_zones(ids.map(|id| zone(id, &name, [0.0, 0.0], [1.0, 1.0])).collect()).await.unwrap();
    }
    let epoch = hand_over(&mut old, (1..=10_000).collect(), "new").await.unwrap();
    let mut received = 0;
    while received < 10_000 {
        match new.next().await {
            server_frame::Frame::ZonesReceived(some) => {
                assert_eq!(some.epoch, epoch);
                received += some.zones.len();
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn zones_handed_to_a_client_that_comes_and_goes_are_never_orphaned(workers: usize) {
    let world = World::new(workers).await;
    let (mut giver, mut publisher) = (world.client("giver").await, world.client("publisher").await);
    let coming_and_going = async {
        for incarnation in 1..60 {
            // Whatever is handed over meanwhile, the first frame is the welcome: `client_run` insists on it.
            let taker = world.client_run("taker", incarnation).await;
            if incarnation % 3 == 0 {
                taker.connection.close(0_u32.into(), b"");
                taker.connection.closed().await;
            }
        }
    };
    let giving = async {
        loop {
            giver.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
            let _ = hand_over(&mut giver, vec![1], "taker").await;
        }
    };
    tokio::select! {
        () = coming_and_going => {}
        () = giving => {}
    }
    // A last taker drives out whoever is left, and goes in good order: then nobody holds anything but the giver.
    let mut last = world.client_run("taker", 1_000).await;
    last.send(client_frame::Frame::Goodbye(wire::Goodbye {})).await;
    last.closed().await;
    giver.connection.close(0_u32.into(), b"");
    let mut again = world.client_run("giver", 2).await;
    again.put_zones(vec![zone(1, "earth", [0.0, 0.0], [10.0, 10.0])]).await.unwrap();
    assert_eq!(matched_at(&mut publisher, 5.0).await, 1, "a zone of a dead session would count too");
}
