//! What the hostile peers do.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use prost::Message;
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use zonecast_protocol::codec::encode_client_frame;
use zonecast_protocol::wire::{self, client_frame};
use zonecast_protocol::{AckLevel, ErrorCode};

use super::Target;
use crate::{
    holes::Dishonest,
    knocking::first_packet,
    operations::metric,
    raw::{Peer, World, closed, hello, zone},
};

fn encoded(frame: client_frame::Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode_client_frame(frame, &mut out);
    out
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

/// Lanes that begin well and lack a byte: the rest waits at the broker for what never comes.
pub(super) async fn holes(_: &World, target: &Target) {
    const LANES: usize = 8;
    let mut attackers = JoinSet::new();
    for number in 0..8_usize {
        let target = target.clone();
        attackers.spawn(async move {
            let connection = target.connection_with(|honest| Arc::new(Dishonest(honest))).await;
            let peer = Peer::welcomed(connection, hello(&format!("holes-{number}"), 1)).await;
            let mut lanes = Vec::new();
            for _ in 0..LANES {
                let mut lane = peer.connection.open_uni().await.unwrap();
                // A frame of half a mebibyte, announced; the last lane of every second attacker sends it in crumbs.
                lane.write_all(&[0x80, 0x80, 0x20]).await.unwrap();
                if number % 2 == 0 && lanes.len() == LANES - 1 {
                    for _ in 0..3_000 {
                        if timeout(Duration::from_millis(50), lane.write_all(&[7])).await.is_err() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                } else {
                    let _ = timeout(Duration::from_secs(1), lane.write_all(&vec![7; 480 << 10])).await;
                }
                lanes.push(lane);
            }
            sleep(Duration::from_secs(1)).await;
            assert!(peer.connection.close_reason().is_none(), "a hole alone is no offence: packets are lost");
        });
    }
    all(attackers).await;
}

pub(super) async fn broken_frames(_: &World, target: &Target) {
    // Lengths beyond the limit or of too many bytes, no protobuf, no known frame; and a megabyte that is only announced.
    const BROKEN: [(&[u8], ErrorCode); 5] = [
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], ErrorCode::FrameTooLarge),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], ErrorCode::MalformedFrame),
        (&[3, 0x0a, 0x7f, 0x00], ErrorCode::MalformedFrame),
        (&[3, 0xa2, 0x06, 0x00], ErrorCode::UnknownFrame),
        (&[0], ErrorCode::UnknownFrame),
    ];
    let mut attackers = JoinSet::new();
    for number in 0..6 {
        let target = target.clone();
        attackers.spawn(async move {
            for (bytes, code) in BROKEN {
                let mut on_lane = target.client(&format!("broken-{number}")).await;
                on_lane.write_lane(bytes).await;
                assert_eq!(on_lane.closed().await.0, code);
                let mut early = Peer::open(target.connection().await).await;
                early.control.write_all(bytes).await.unwrap();
                assert_eq!(early.closed().await.0, code);
            }
            let announcing = target.client(&format!("broken-{number}")).await;
            let mut lanes = Vec::new();
            for _ in 0..16 {
                let mut lane = announcing.connection.open_uni().await.unwrap();
                lane.write_all(&[0x80, 0x80, 0x40]).await.unwrap();
                lanes.push(lane);
            }
            sleep(Duration::from_millis(500)).await;
        });
    }
    all(attackers).await;
}

pub(super) async fn slow_hellos(_: &World, target: &Target) {
    let mut attackers = JoinSet::new();
    for number in 0..40 {
        let target = target.clone();
        attackers.spawn(async move {
            let peer = Peer::open(target.connection().await).await;
            let mut control = peer.control;
            let bytes = encoded(client_frame::Frame::Hello(hello(&format!("slow-{number}"), 1)));
            for byte in &bytes[..bytes.len() - 1] {
                if control.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(closed(&peer.connection).await.0, ErrorCode::HelloTimeout);
        });
    }
    all(attackers).await;
}

/// Opens, writes and resets streams as fast as the broker permits.
async fn flood(connection: &quinn::Connection, until: Instant) {
    while Instant::now() < until {
        let Ok(Ok(mut stream)) = timeout(Duration::from_millis(20), connection.open_uni()).await else { break };
        if stream.write_all(&[9, 1]).await.is_err() || stream.reset(7_u32.into()).is_err() {
            break;
        }
    }
}

pub(super) async fn stream_floods(_: &World, target: &Target) {
    let until = Instant::now() + Duration::from_secs(2);
    let mut attackers = JoinSet::new();
    for number in 0..4 {
        let target = target.clone();
        attackers.spawn(async move {
            while Instant::now() < until {
                // Before a hello nobody looks at them, and QUIC permits so many and no more.
                let stranger = target.connection().await;
                flood(&stranger, until).await;
                // After one, a stream that is reset ends the session.
                let guest = target.client(&format!("flood-{number}")).await;
                flood(&guest.connection, until).await;
                let _ = timeout(Duration::from_millis(500), guest.connection.closed()).await;
            }
        });
    }
    all(attackers).await;
}

/// Each is a frame that there is, where or when it should not be, or about things that are not there.
fn untimely() -> Vec<Vec<client_frame::Frame>> {
    use client_frame::Frame;
    let update = |request_id, ids: &[u32]| {
        let upsert = ids.iter().map(|id| zone(*id, "earth", [0.0, 0.0], [1.0, 1.0])).collect();
        Frame::UpdateZones(wire::UpdateZones { request_id, upsert, ..Default::default() })
    };
    let ack = wire::DeliveryAck {
        through_seq: u64::MAX,
        processed: vec![1, 2, u64::MAX],
        rejected: vec![3, 0],
        control_through: u64::MAX,
    };
    let hand_over = |to: &str| {
        Frame::HandOverZones(wire::HandOverZones { request_id: 7, zone_ids: vec![9], to_client_id: to.to_owned() })
    };
    let remove = wire::UpdateTopics { request_id: 4, add: vec![], remove: vec![5, 5] };
    vec![
        vec![Frame::DeliveryAck(ack.clone()), Frame::DeliveryAck(ack)],
        vec![update(9, &[1, 1]), update(9, &[1]), update(3, &[2]), update(0, &[3])],
        vec![hand_over("nobody"), hand_over("disorder-0"), hand_over("")],
        vec![Frame::UpdateTopics(remove), Frame::Ping(wire::Ping { nonce: 0 })],
        vec![Frame::Goodbye(wire::Goodbye {}), update(1, &[1]), Frame::Hello(hello("again", 1))],
        vec![Frame::Hello(hello("again", 1))],
        vec![Frame::Publish(wire::Publish::default())],
    ]
}

pub(super) async fn disorder(_: &World, target: &Target) {
    let mut attackers = JoinSet::new();
    for number in 0..3 {
        let target = target.clone();
        attackers.spawn(async move {
            for frames in untimely() {
                let bytes: Vec<u8> = frames.into_iter().flat_map(encoded).collect();
                // At once, before the hello, and after it, on either kind of stream.
                let mut early = Peer::open(target.connection().await).await;
                early.control.write_all(&bytes).await.unwrap();
                let name = format!("disorder-{number}");
                let mut guest = target.client(&name).await;
                let _ = guest.control.write_all(&bytes).await;
                let mut on_lane = target.client(&format!("{name}-lane")).await;
                on_lane.write_lane(&bytes).await;
                sleep(Duration::from_millis(20)).await;
            }
            let mut publisher = target.client(&format!("disorder-{number}")).await;
            for lane_seq in [5, 5, 4, u64::MAX, 1, 0] {
                let event = wire::Event { lane_seq, ..publisher.event_on("nobody") };
                let event = event.encode_to_vec().into();
                let publish = wire::Publish { event, ack: AckLevel::Processed.into(), ..Default::default() };
                publisher.write_publish(publish).await;
            }
            sleep(Duration::from_millis(100)).await;
        });
    }
    all(attackers).await;
}

pub(super) async fn half_open(world: &World, target: &Target) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut most = 0;
    for number in 0..200 {
        socket.send_to(&first_packet(world).await, target.broker).await.unwrap();
        if number % 20 == 0 {
            most = most.max(metric(world, "zonecast_handshakes").await.parse().unwrap());
            target.client("newcomer").await;
        }
    }
    assert!((40..=55_u32).contains(&most), "{most} were half open; from 50 on an address must be shown");
    assert_ne!(metric(world, "zonecast_retries_out_total").await, "0");
}

pub(super) async fn unread_answers(_: &World, target: &Target) {
    let mut attackers = JoinSet::new();
    for number in 0..6 {
        let target = target.clone();
        attackers.spawn(async move {
            let mut deaf = target.client(&format!("deaf-{number}")).await;
            let pings: Vec<u8> =
                (0..10_000).flat_map(|nonce| encoded(client_frame::Frame::Ping(wire::Ping { nonce }))).collect();
            // Until the broker no longer takes them, and then until it has had enough.
            while deaf.control.write_all(&pings).await.is_ok() {}
            assert_eq!(deaf.closed().await.0, ErrorCode::SlowConsumer);
        });
    }
    all(attackers).await;
}
