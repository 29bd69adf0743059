use bytes::BytesMut;
use proptest::prelude::*;
use zonecast_protocol::{
    TopicPattern,
    codec::{DeliverFlags, encode_deliver, encode_gap},
};

use super::*;
use crate::{
    ClientConfig, TlsConfig,
    mailbox::{Mailbox, MailboxBounds},
    routes::TopicRoute,
};

const BOUNDS: MailboxBounds = MailboxBounds { items_max: 1000, bytes_max: 1 << 20 };

fn dispatcher() -> Dispatcher {
    let dispatcher = new_dispatcher();
    let shared = &dispatcher.shared;
    shared.routes.set_zones(Some(Arc::new(Mailbox::new(BOUNDS))));
    for (id, pattern) in [(1, "a.*"), (2, ">")] {
        let (pattern, mailbox) = (TopicPattern::new(pattern).unwrap(), Arc::new(Mailbox::new(BOUNDS)));
        shared.routes.add_topic(TopicRoute { id, pattern, queue_group: None, mailbox }).unwrap();
    }
    dispatcher
}

/// Of a client that has subscribed to nothing.
fn new_dispatcher() -> Dispatcher {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let tls = TlsConfig::from_ca_pem(certificate.as_bytes()).unwrap();
    let config = ClientConfig::new("c").address("127.0.0.1:1").tls(tls).incarnation(1);
    Dispatcher::new(Arc::new(Shared::new(&config.validate(1).unwrap())))
}

/// Three events, on a place and on topics, with a gap between them; other ones in each round.
fn stream(round: u64) -> Vec<u8> {
    let event = |target, number| {
        let lane_seq = 4 * round + number;
        let event = wire::Event { target: Some(target), lane_seq, kind: "k".into(), ..Default::default() };
        prost::Message::encode_to_vec(&event)
    };
    let place = wire::Place { world: "earth".into(), x: 1.0, y: 2.0, radius: 3.0 };
    let mut bytes = BytesMut::new();
    encode_deliver(1, DeliverFlags::default(), &event(wire::event::Target::Place(place), 1), &mut bytes);
    encode_deliver(2, DeliverFlags::default(), &event(wire::event::Target::Topic("a.b".into()), 2), &mut bytes);
    encode_gap(3, 4, wire::GapReason::SlowConsumer, &mut bytes);
    encode_deliver(5, DeliverFlags::default(), &event(wire::event::Target::Topic("_inbox.1.2".into()), 3), &mut bytes);
    bytes.to_vec()
}

/// What is sorted, without giving it to the subscriptions.
fn take(dispatcher: &mut Dispatcher, pieces: Vec<Vec<u8>>) -> Result<(), LinkError> {
    let mut cutter = FrameCutter::new(1 << 20);
    for piece in pieces {
        dispatcher.take(&mut cutter, piece.into())?;
    }
    Ok(cutter.finish()?)
}

#[test]
fn events_and_gaps_are_sorted_however_the_stream_is_cut() {
    let mut dispatcher = dispatcher();
    for piece_bytes in 1..stream(0).len() {
        dispatcher.last_seq = 0;
        take(&mut dispatcher, stream(piece_bytes as u64).chunks(piece_bytes).map(<[u8]>::to_vec).collect()).unwrap();
        let zones = Vec::from(mem::take(&mut dispatcher.for_zones).into_items());
        assert!(matches!(&zones[..], [ZoneItem::Event(_), ZoneItem::Gap { .. }]));
        for topic in &mut dispatcher.for_topics {
            let items = Vec::from(mem::take(topic).into_items());
            assert!(matches!(&items[..], [TopicItem::Event(_), TopicItem::Gap { .. }]));
        }
        dispatcher.touched.clear();
    }
    let counters = &dispatcher.shared.counters;
    assert_eq!(counters.unclaimed.load(Relaxed), stream(0).len() as u64 - 1, "the reply that nobody awaits");
}

#[test]
fn mutated_streams_are_read_or_refused() {
    let dispatcher = std::cell::RefCell::new(dispatcher());
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    let config = ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(changes in proptest::collection::vec(change, 1..5), piece_bytes in 1..200_usize)| {
        let mut dispatcher = dispatcher.borrow_mut();
        let mut bytes = stream(dispatcher.shared.counters.delivered.load(Relaxed));
        for (place, byte, how) in changes {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes[place] ^= 1 << (byte % 8),
                2 => drop(bytes.remove(place)),
                _ => bytes.insert(place, byte),
            }
        }
        dispatcher.last_seq = 0;
        // Either is good: what matters is that it comes back, and what it lets through.
        let _ = take(&mut dispatcher, bytes.chunks(piece_bytes).map(<[u8]>::to_vec).collect());
        for item in mem::take(&mut dispatcher.for_zones).into_items() {
            if let Some(event) = item.into_event() {
                prop_assert!(event.world().is_some() && event.topic().is_none());
            }
        }
        for topic in &mut dispatcher.for_topics {
            for item in mem::take(topic).into_items() {
                if let Some(event) = item.into_event() {
                    prop_assert!(event.topic().is_some() && event.world().is_none());
                }
            }
        }
        dispatcher.touched.clear();
    });
}

#[test]
fn what_comes_too_late_to_be_known_is_shown() {
    let mut dispatcher = dispatcher();
    let event = |lane_seq| wire::Event {
        target: Some(wire::event::Target::Place(wire::Place { world: "earth".into(), ..Default::default() })),
        lane_seq,
        ..Default::default()
    };
    let mut bytes = BytesMut::new();
    // The second is just within what is remembered, the third just beyond.
    for (seq, lane_seq) in [(1, 20_000), (2, 20_000 - 16_383), (3, 20_000 - 16_384)] {
        let flags = DeliverFlags { resent: true, await_processing: true };
        encode_deliver(seq, flags, &prost::Message::encode_to_vec(&event(lane_seq)), &mut bytes);
    }
    take(&mut dispatcher, vec![bytes.to_vec()]).unwrap();
    let items = Vec::from(mem::take(&mut dispatcher.for_zones).into_items());
    let reason = GapReason::TooLate;
    assert!(
        matches!(&items[..], [ZoneItem::Event(_), ZoneItem::Event(_), ZoneItem::Gap { from_seq: 3, to_seq: 3, reason: is }] if *is == reason),
        "{items:?}"
    );
    let crate::intake::Due::Now(ack) = dispatcher.shared.intake.due() else { panic!() };
    assert_eq!(ack.rejected, [3], "whoever waits for it is told");
}

#[test]
fn what_nobody_subscribes_to_in_time_is_given_up() {
    let mut dispatcher = new_dispatcher();
    dispatcher.begin_session(Beginning::First);
    let event = wire::Event {
        target: Some(wire::event::Target::Topic("a.b".into())),
        lane_seq: 1,
        payload: vec![0; 16 << 20].into(),
        ..Default::default()
    };
    let mut bytes = BytesMut::new();
    for (seq, length) in [(1, 0), (2, 100), (3, 16 << 20)] {
        let event = wire::Event { lane_seq: seq, payload: vec![0; length].into(), ..event.clone() };
        let flags = DeliverFlags { resent: true, await_processing: true };
        encode_deliver(seq, flags, &prost::Message::encode_to_vec(&event), &mut bytes);
    }
    let mut cutter = FrameCutter::new(u32::MAX);
    dispatcher.take(&mut cutter, bytes.freeze()).unwrap();
    let rejected = |dispatcher: &Dispatcher| match dispatcher.shared.intake.due() {
        crate::intake::Due::Now(ack) => ack.rejected,
        other => panic!("{other:?}"),
    };
    assert_eq!(rejected(&dispatcher), [3], "there is no room for that one");
    let deadline = dispatcher.overdue_at().unwrap();
    dispatcher.give_up(deadline - std::time::Duration::from_millis(1));
    assert!(dispatcher.holds());
    dispatcher.give_up(deadline);
    assert_eq!((dispatcher.holds(), rejected(&dispatcher)), (false, vec![1, 2]));
    assert_eq!(dispatcher.shared.counters.unclaimed.load(Relaxed), 3);
}
