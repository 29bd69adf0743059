//! What a broken or hostile peer may send, and that it hurts nobody else.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::net::UdpSocket;
use zonecast_broker::{Broker, BrokerConfig, BrokerError, BrokerTls, ConnectionLimits, EndpointError};
use zonecast_protocol::wire::{self, client_frame};
use zonecast_protocol::{ALPN, ErrorCode, Kind, WorldName};

use crate::knocking::first_packet;
use crate::raw::{Authority, Peer, World, hello, zone};

crate::with_one_and_two_workers! {
    refused_publishes_leave_the_connection_alive
    rights_name_worlds_and_kinds
    the_ten_thousand_and_first_zone_is_refused
    broken_framing_closes_with_a_code
    a_bad_hello_is_refused
    a_hello_that_never_comes_is_not_awaited
    handshakes_that_fail_leave_the_accept_loop_alive
}

async fn refused_publishes_leave_the_connection_alive(workers: usize) {
    let world = World::new(workers).await;
    let mut peer = world.client("publisher").await;
    let cases: Vec<(wire::Event, ErrorCode)> = vec![
        (peer.event_at("earth", f64::NAN, 0.0, 1.0), ErrorCode::InvalidGeometry),
        (peer.event_at("earth", 0.0, f64::NEG_INFINITY, 1.0), ErrorCode::InvalidGeometry),
        (peer.event_at("earth", 0.0, 0.0, -1.0), ErrorCode::InvalidGeometry),
        (peer.event_at("earth", 0.0, 0.0, 1e6 + 1.0), ErrorCode::GeometryOutOfRange),
        (peer.event_at("earth", 2e12, 0.0, 1.0), ErrorCode::GeometryOutOfRange),
        (peer.event_at("", 0.0, 0.0, 1.0), ErrorCode::InvalidName),
        (peer.event_on("users.*"), ErrorCode::InvalidName),
        (wire::Event { payload: vec![0; (1 << 20) + 1].into(), ..peer.event_on("users") }, ErrorCode::PayloadTooLarge),
        (wire::Event { source: peer.source + 1, ..peer.event_on("users") }, ErrorCode::WrongSource),
        (wire::Event { lane: 16, ..peer.event_on("users") }, ErrorCode::InvalidArgument),
        (wire::Event { lane_seq: 1, ..peer.event_on("users") }, ErrorCode::OutOfSequence),
    ];
    for (event, code) in cases {
        assert_eq!(peer.publish(event.clone()).await, Err(code), "{:?}", event.target);
    }
    let garbage = wire::Publish { event: Bytes::from_static(b"\xff\xff\xff"), ..Default::default() };
    assert_eq!(
        peer.publish_frame(garbage).await,
        Err(ErrorCode::InvalidArgument),
        "refusals need no ack to be asked for"
    );
    for unknown in
        [wire::Publish { ack: 3, ..Default::default() }, wire::Publish { require_match: true, ..Default::default() }]
    {
        let event = peer.event_on("users").encode_to_vec().into();
        assert_eq!(peer.publish_frame(wire::Publish { event, ..unknown }).await, Err(ErrorCode::InvalidArgument));
    }
    // Unknown fields are passed on, so an event can be long without a payload; its delivery must still fit a frame.
    let mut padded = peer.event_on("users").encode_to_vec();
    padded.extend([0xa2, 0x06, 0xe0, 0xff, 0x43]);
    padded.resize(padded.len() + 1_114_080, 0);
    let padded = wire::Publish { event: padded.into(), ..Default::default() };
    assert!(padded.encoded_len() < 1_114_112);
    assert_eq!(peer.publish_frame(padded).await, Err(ErrorCode::PayloadTooLarge));
    let largest = wire::Event { payload: vec![0; 1 << 20].into(), ..peer.event_on("users") };
    assert_eq!(peer.publish(largest).await, Ok(0), "the connection lives, and a mebibyte is permitted");
}

async fn rights_name_worlds_and_kinds(workers: usize) {
    let world = World::with(workers, |config| {
        config.rights.worlds = [WorldName::new("earth").unwrap()].into_iter().collect();
        config.rights.publish.kinds = [Kind::new("quake").unwrap()].into_iter().collect();
    })
    .await;
    let mut peer = world.client("server").await;
    let edge = |world| vec![zone(1, world, [0.0, 0.0], [1.0, 1.0])];
    assert_eq!(peer.put_zones(edge("mars")).await, Err(ErrorCode::PermissionDenied));
    assert!(peer.put_zones(edge("earth")).await.is_ok());
    let of_kind = |event: wire::Event, kind: &str| wire::Event { kind: kind.to_owned(), ..event };
    let event = of_kind(peer.event_at("earth", 0.0, 0.0, 0.0), "quake");
    assert_eq!(peer.publish(event).await, Ok(1));
    let event = of_kind(peer.event_at("earth", 0.0, 0.0, 0.0), "fire");
    assert_eq!(peer.publish(event).await, Err(ErrorCode::PermissionDenied));
    let event = of_kind(peer.event_at("mars", 0.0, 0.0, 0.0), "quake");
    assert_eq!(peer.publish(event).await, Err(ErrorCode::PermissionDenied));
}

async fn the_ten_thousand_and_first_zone_is_refused(workers: usize) {
    let world = World::new(workers).await;
    let mut peer = world.client("server").await;
    let row = |ids: std::ops::RangeInclusive<u32>| -> Vec<wire::Zone> {
        ids.map(|id| zone(id, "earth", [f64::from(id), 0.0], [f64::from(id) + 0.5, 1.0])).collect()
    };
    peer.put_zones(row(1..=10_000)).await.unwrap();
    assert_eq!(peer.put_zones(row(10_001..=10_001)).await, Err(ErrorCode::TooManyZones));
    let event = peer.event_at("earth", 10_001.0, 0.0, 0.0);
    assert_eq!(peer.publish(event).await, Ok(0));
    let event = peer.event_at("earth", 9_999.0, 0.0, 1.0);
    assert_eq!(peer.publish(event).await, Ok(1), "10,000 are held");
}

async fn broken_framing_closes_with_a_code(workers: usize) {
    let world = World::new(workers).await;
    let mut bystander = world.client("bystander").await;
    bystander.listen(1, "still.here", "").await.unwrap();
    let cases: [(&[u8], ErrorCode); 5] = [
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], ErrorCode::FrameTooLarge),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], ErrorCode::MalformedFrame),
        (&[3, 0x0a, 0x7f, 0x00], ErrorCode::MalformedFrame),
        (&[3, 0xa2, 0x06, 0x00], ErrorCode::UnknownFrame),
        (&[0], ErrorCode::UnknownFrame),
    ];
    for (number, (bytes, code)) in cases.iter().enumerate() {
        let mut on_control = world.client(&format!("control-{number}")).await;
        on_control.control.write_all(bytes).await.unwrap();
        assert_eq!(on_control.closed().await.0, *code, "{bytes:?} on the control stream");
        let mut on_lane = world.client(&format!("lane-{number}")).await;
        on_lane.write_lane(bytes).await;
        assert_eq!(on_lane.closed().await.0, *code, "{bytes:?} on a lane");
        let before_hello = Peer::open(world.connection().await).await;
        let mut control = before_hello.control;
        control.write_all(bytes).await.unwrap();
        assert_eq!(crate::raw::closed(&before_hello.connection).await.0, *code, "{bytes:?} instead of a hello");
    }
    let mut truncated = world.client("truncated").await;
    truncated.write_lane(&[9, 1, 2]).await;
    truncated.finish_lane();
    let (code, reason) = truncated.closed().await;
    assert_eq!(code, ErrorCode::MalformedFrame);
    assert!(reason.contains("within a frame"), "{reason}");
    unexpected_frames_close(&world).await;
    let event = bystander.event_on("still.here");
    assert_eq!(bystander.publish(event).await, Ok(1), "nobody else noticed");
}

async fn unexpected_frames_close(world: &World) {
    let mut twice = world.client("twice").await;
    twice.send(client_frame::Frame::Hello(hello("twice", 1))).await;
    assert_eq!(twice.closed().await.0, ErrorCode::UnexpectedFrame);
    let mut publish_on_control = world.client("publisher").await;
    publish_on_control.send(client_frame::Frame::Publish(wire::Publish::default())).await;
    assert_eq!(publish_on_control.closed().await.0, ErrorCode::UnexpectedFrame);
    let mut early = Peer::open(world.connection().await).await;
    early.send(client_frame::Frame::Ping(wire::Ping { nonce: 1 })).await;
    let (code, reason) = early.closed().await;
    assert_eq!(code, ErrorCode::UnexpectedFrame);
    assert!(reason.contains("Ping"), "{reason}");
}

async fn a_bad_hello_is_refused(workers: usize) {
    let world = World::new(workers).await;
    for (hello, code, word) in [
        (wire::Hello { protocol_version: 2, ..hello("a", 1) }, ErrorCode::UnsupportedVersion, "speaks 1"),
        (hello("", 1), ErrorCode::InvalidHello, "client_id"),
        (hello("spaces are bad", 1), ErrorCode::InvalidHello, "client_id"),
        (hello("a", 0), ErrorCode::InvalidHello, "incarnation"),
        (wire::Hello { software: "x".repeat(65), ..hello("a", 1) }, ErrorCode::InvalidHello, "software"),
    ] {
        let mut peer = Peer::open(world.connection().await).await;
        peer.send(client_frame::Frame::Hello(hello)).await;
        let (closed, reason) = peer.closed().await;
        assert_eq!(closed, code);
        assert!(reason.contains(word), "{reason}");
    }
}

async fn a_hello_that_never_comes_is_not_awaited(workers: usize) {
    assert_eq!(ConnectionLimits::default().hello_timeout, Duration::from_secs(5));
    let short = |config: &mut BrokerConfig| config.connections.hello_timeout = Duration::from_millis(200);
    let world = World::with(workers, short).await;
    let silent = world.connection().await;
    assert_eq!(crate::raw::closed(&silent).await.0, ErrorCode::HelloTimeout);
    let half = Peer::open(world.connection().await).await;
    let mut control = half.control;
    control.write_all(&[20, 1, 2]).await.unwrap();
    assert_eq!(crate::raw::closed(&half.connection).await.0, ErrorCode::HelloTimeout);
}

/// A client's first packet, with one bit of its protected part turned.
async fn corrupted_initial(world: &World) -> Vec<u8> {
    let mut packet = first_packet(world).await;
    let middle = packet.len() / 2;
    packet[middle] ^= 1;
    packet
}

async fn handshakes_that_fail_leave_the_accept_loop_alive(workers: usize) {
    let world = World::new(workers).await;
    // Enough of them, from different ports, to meet every worker.
    for seed in 0..8_u8 {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        socket.send_to(&corrupted_initial(&world).await, world.broker.local_addr()).await.unwrap();
        socket.send_to(&vec![seed; 1200], world.broker.local_addr()).await.unwrap();
        socket.send_to(&[], world.broker.local_addr()).await.unwrap();
        let wrong_alpn = world.connection_as(b"zonecast/99", world.authority.roots(), None).await;
        // TLS alert 120: no_application_protocol.
        let wrong_alpn = wrong_alpn.unwrap_err().to_string();
        assert!(wrong_alpn.contains("error 120"), "{wrong_alpn}");
        let other_authority = Authority::new().roots();
        let unknown_ca = world.connection_as(ALPN, other_authority, None).await.unwrap_err().to_string();
        assert!(unknown_ca.contains("UnknownIssuer"), "{unknown_ca}");
    }
    for number in 0..8 {
        world.client(&format!("client-{number}")).await;
    }
}

#[test]
fn a_port_in_use_is_said_so() {
    crate::raw::block_on(async {
        for (first, second) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            let world = World::new(first).await;
            let (chain, key) = world.authority.identity("localhost", |_| {});
            let mut config = BrokerConfig::new(world.broker.local_addr(), BrokerTls::new(chain, key));
            config.workers = std::num::NonZeroUsize::new(second).unwrap();
            let error = Broker::start(config).await.expect_err("the port is taken");
            assert!(
                matches!(error, BrokerError::Endpoint(EndpointError::PortInUse { .. })),
                "{first} {second}: {error}"
            );
            assert!(error.to_string().contains("in use"), "{error}");
        }
    });
}
