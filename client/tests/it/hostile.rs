//! Brokers that break the protocol: the client neither panics nor hangs, says what is wrong, and tries again.

use std::time::Duration;

use bytes::BytesMut;
use zonecast_client::{Client, ConnectionState, ErrorCode, GapReason, LinkError, Publish, ZoneItem};
use zonecast_protocol::{
    codec::{DeliverFlags, FrameError, encode_deliver, encode_gap, encode_server_frame},
    wire::{self, server_frame::Frame as ServerFrame},
};

use crate::broker::{Conversation, FakeBroker, Incoming, guarded, place_event};

fn encoded(frame: ServerFrame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_server_frame(frame, &mut bytes);
    bytes.to_vec()
}

fn deliver(seq: u64, event: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_deliver(seq, DeliverFlags::default(), event, &mut bytes);
    bytes.to_vec()
}

fn gap(from_seq: u64, to_seq: u64) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_gap(from_seq, to_seq, wire::GapReason::Unspecified, &mut bytes);
    bytes.to_vec()
}

/// Waits until the client has left, and checks that it told the broker why.
async fn expect_complaint(what: &str, conversation: &Conversation, about: &str) {
    match guarded(what, conversation.connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert!((1..=7).contains(&close.error_code.into_inner()), "{what}: {close}");
            let reason = String::from_utf8(close.reason.to_vec()).unwrap();
            assert!(!reason.is_empty() && reason.contains(about), "{what}: {reason}");
        }
        // A farewell is one packet, and sent once.
        quinn::ConnectionError::Reset | quinn::ConnectionError::TimedOut => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// Sends nonsense on a good connection; the client must leave, saying why, and come again.
async fn expect_new_connection(what: &str, send: impl AsyncFnOnce(&mut Conversation)) {
    let broker = FakeBroker::start();
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    let (_client, mut conversation) = (client.unwrap(), conversation);
    send(&mut conversation).await;
    expect_complaint(what, &conversation, "").await;
    broker.welcome().await;
}

#[tokio::test]
async fn the_application_is_told_what_was_broken() {
    let broker = FakeBroker::start();
    let wait = Duration::from_secs(3600);
    let (client, conversation) =
        tokio::join!(Client::connect(broker.config("c").backoff(wait, wait)), broker.welcome());
    let (client, mut conversation) = (client.unwrap(), conversation);
    conversation.send_bytes(&[0]).await;
    let mut states = client.states();
    let left = states.wait_for(|state| matches!(state, ConnectionState::Disconnected { .. }));
    let Some(ConnectionState::Disconnected { reason, .. }) = guarded("the reason", left).await else { panic!("left") };
    assert!(matches!(reason, LinkError::Framing(FrameError::Unknown)), "{reason:?}");
    assert!(reason.to_string().contains("version"), "{reason}");
}

#[tokio::test]
async fn broken_control_frames_lead_to_a_new_connection() {
    let welcome = encoded(ServerFrame::Welcome(wire::Welcome::default()));
    let answer = encoded(ServerFrame::InterestApplied(wire::InterestApplied { request_id: 7, epoch: 1 }));
    let zones = |id, max_x| {
        let zone = wire::Zone { id, world: "w".into(), max_x, ..Default::default() };
        encoded(ServerFrame::ZonesReceived(wire::ZonesReceived { zones: vec![zone], ..Default::default() }))
    };
    let cases = [
        ("an endless length", vec![0xff; 6]),
        ("a length beyond the limit", vec![0xff, 0xff, 0xff, 0x7f]),
        ("no protobuf", vec![2, 0xff, 0xff]),
        ("an unknown frame", vec![0]),
        ("a second welcome", welcome),
        ("a delivery on the control stream", deliver(1, b"")),
        ("a gap on the control stream", gap(1, 1)),
        ("an answer to nothing", answer),
        ("a zone under an id of the client's range", zones(5, 1.0)),
        ("a zone that is no rectangle", zones(1 << 31, f64::NAN)),
    ];
    for (what, bytes) in cases {
        expect_new_connection(what, async |conversation| conversation.send_bytes(&bytes).await).await;
    }
}

#[tokio::test]
async fn broken_deliveries_lead_to_a_new_connection() {
    let cases = [
        ("an endless length", vec![0xff; 6]),
        ("no protobuf", vec![2, 0xff, 0xff]),
        ("a control frame", encoded(ServerFrame::Pong(wire::Pong { nonce: 1 }))),
        ("delivery number 0", deliver(0, b"")),
        ("a repeated number", [deliver(1, b""), deliver(1, b"")].concat()),
        ("a gap in the past", [deliver(5, b""), gap(4, 6)].concat()),
        ("a gap that ends before it begins", gap(4, 3)),
    ];
    for (what, bytes) in cases {
        expect_new_connection(what, async |conversation| conversation.send_delivery_bytes(&bytes).await).await;
    }
}

/// A client with a zone subscription, whose control stream and lane the broker has stopped.
async fn stopped(broker: &FakeBroker) -> (Client, Conversation, zonecast_client::ZoneSubscription) {
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    let (client, mut conversation) = (client.unwrap(), conversation);
    let (zones, _) = tokio::join!(client.subscribe_zones([]), conversation.grant_zones());
    client.publish(Publish::to_topic("a")).await.unwrap();
    let mut lane = Incoming::new(guarded("a lane", conversation.connection.accept_uni()).await.unwrap());
    lane.next_publish().await;
    lane.stop();
    conversation.control.stop();
    (client, conversation, zones.unwrap())
}

#[tokio::test]
async fn a_broker_may_stop_streams_before_it_says_that_it_goes_away() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = stopped(&broker).await;
    for lane_seq in 1..=3 {
        // Each asks the client to write on the stopped streams, the second time surely after it knows.
        client.publish(Publish::to_topic("a")).await.unwrap();
        conversation.deliver(&place_event(lane_seq)).await;
        let item = guarded("an event", zones.next()).await.unwrap();
        assert_eq!(item.event().unwrap().lane_seq(), lane_seq);
    }
    let go_away = wire::GoAway { code: 23, message: "restarting".into(), reconnect_after_ms: 1 };
    conversation.deliver(&place_event(4)).await;
    conversation.send(ServerFrame::GoAway(go_away)).await;
    let mut states = client.states();
    assert_eq!(guarded("the last event", zones.next()).await.unwrap().event().unwrap().lane_seq(), 4);
    conversation.close(ErrorCode::ShuttingDown, "");
    let disconnected = states.wait_for(|state| matches!(state, ConnectionState::Disconnected { .. }));
    let Some(ConnectionState::Disconnected { reason, .. }) = guarded("it to end", disconnected).await else { panic!() };
    assert!(matches!(&reason, LinkError::Ended { code: 23, .. }), "{reason:?}");
}

#[tokio::test]
async fn a_broker_that_stops_streams_and_never_says_why_is_left() {
    let broker = FakeBroker::start();
    let (client, mut conversation, mut zones) = stopped(&broker).await;
    // What is delivered behind the stop tells that the client knows; then it writes.
    conversation.deliver(&place_event(1)).await;
    guarded("an event", zones.next()).await.unwrap();
    client.publish(Publish::to_topic("a")).await.unwrap();
    expect_complaint("stopped streams", &conversation, "does not say why").await;
    broker.welcome().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_shown_as_a_gap() {
    let broker = FakeBroker::start();
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    let (client, mut conversation) = (client.unwrap(), conversation);
    let (zones, _) = tokio::join!(client.subscribe_zones([]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    let event = |lane_seq| prost::Message::encode_to_vec(&place_event(lane_seq));
    let bytes = [deliver(1, b"nonsense"), deliver(2, &event(1)), deliver(5, &event(2))].concat();
    conversation.send_delivery_bytes(&bytes).await;
    let next = async |zones: &mut zonecast_client::ZoneSubscription| guarded("an item", zones.next()).await.unwrap();
    let undecodable = next(&mut zones).await;
    assert!(matches!(undecodable, ZoneItem::Gap { from_seq: 1, to_seq: 1, reason: GapReason::Undecodable }));
    assert!(next(&mut zones).await.event().is_some());
    let unannounced = next(&mut zones).await;
    assert!(matches!(unannounced, ZoneItem::Gap { from_seq: 3, to_seq: 4, reason: GapReason::NotStated }));
    assert!(next(&mut zones).await.event().is_some());
    let stats = client.stats();
    assert_eq!((stats.delivered, stats.missing, stats.undecodable), (3, 3, 1));
}

#[tokio::test]
async fn a_broken_welcome_is_complained_about() {
    type Change = fn(&mut wire::Welcome);
    let cases: [(&str, Change); 5] = [
        ("another source", |welcome| welcome.source += 1),
        ("another version", |welcome| welcome.protocol_version = 2),
        ("no limits", |welcome| welcome.limits = None),
        ("no lane", |welcome| welcome.limits.as_mut().unwrap().lanes_max = 0),
        ("frames that fill the memory", |welcome| welcome.limits.as_mut().unwrap().frame_bytes_max = u32::MAX),
    ];
    for (what, change) in cases {
        let broker = FakeBroker::start();
        let connecting = tokio::spawn(Client::connect(broker.config("c")));
        let mut conversation = broker.accept().await;
        let mut welcome = conversation.welcome_frame();
        change(&mut welcome);
        conversation.send(ServerFrame::Welcome(welcome)).await;
        expect_complaint(what, &conversation, "Welcome").await;
        let _good = broker.welcome().await;
        guarded(what, connecting).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn bytes_in_place_of_a_welcome_do_no_harm() {
    for bytes in [&[0xff; 6][..], &[0xff, 0xff, 0xff, 0x7f], &[2, 0xff, 0xff], &[0], &[4, 0x52, 2, 8, 9]] {
        let broker = FakeBroker::start();
        let connecting = tokio::spawn(Client::connect(broker.config("c")));
        let mut conversation = broker.accept().await;
        conversation.send_bytes(bytes).await;
        guarded("the client leaves", conversation.connection.closed()).await;
        let good = broker.welcome().await;
        connecting.await.unwrap().unwrap();
        good.close(ErrorCode::ShuttingDown, "");
    }
}

/// Good streams with a few bytes changed, cut out, or doubled. The connection may go on or end; the client may not.
#[tokio::test]
async fn mutated_streams_do_no_harm() {
    let broker = FakeBroker::start();
    let (client, conversation) = tokio::join!(Client::connect(broker.config("c")), broker.welcome());
    let (client, mut conversation) = (client.unwrap(), conversation);
    let (zones, _) = tokio::join!(client.subscribe_zones([]), conversation.grant_zones());
    let mut zones = zones.unwrap();
    let reading = tokio::spawn(async move { while zones.next().await.is_some() {} });
    let event = prost::Message::encode_to_vec(&place_event(1));
    let deliveries = [deliver(1, &event), gap(2, 3), deliver(4, &event), deliver(5, &event)].concat();
    let handed = wire::Zone { id: 1 << 31, world: "w".into(), ..Default::default() };
    let received = wire::ZonesReceived { from_client_id: "o".into(), zones: vec![handed], epoch: 3 };
    let control = [
        encoded(ServerFrame::PublishAck(wire::PublishAck { lane: 1, lane_seq: 2, matched: 3 })),
        encoded(ServerFrame::PublishRefused(wire::PublishRefused { lane: 300, ..Default::default() })),
        encoded(ServerFrame::Pong(wire::Pong { nonce: 5 })),
        encoded(ServerFrame::ZonesReceived(received)),
    ]
    .concat();
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = if seed % 2 == 0 { deliveries.clone() } else { control.clone() };
        for _ in 0..random.usize(1..4) {
            let place = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[place] = random.u8(..),
                1 => bytes[place] ^= 1 << random.u8(..8),
                2 => drop(bytes.remove(place)),
                _ => bytes.insert(place, bytes[place]),
            }
        }
        match seed % 2 {
            0 => conversation.send_delivery_bytes(&bytes).await,
            _ => conversation.send_bytes(&bytes).await,
        }
        // Whatever it made of that, it leaves now, having read it.
        conversation.end_control();
        guarded("the client to leave", conversation.connection.closed()).await;
        conversation = broker.welcome().await;
    }
    assert!(!reading.is_finished());
}
