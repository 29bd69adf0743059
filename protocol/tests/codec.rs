//! The codec against prost, pinned bytes, and bytes that a peer might send in malice.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use zonecast_protocol::codec::{
    DeliverFlags, EncodedDeliver, FrameCutter, FrameError, decode_client_frame, decode_server_frame,
    encode_client_frame, encode_datagrams, encode_deliver, encode_deliver_datagram, encode_gap, encode_server_frame,
    first_encoded_deliver, first_frame_bytes,
};
use zonecast_protocol::wire::{self, client_frame, server_frame};
use zonecast_protocol::{Circle, DeliveryClass, ErrorCode, EventView, Limits, Target, Zone};

fn quake() -> wire::Event {
    wire::Event {
        target: Some(wire::event::Target::Place(wire::Place { world: "earth".into(), x: 3.0, y: -4.0, radius: 5.5 })),
        kind: "quake".into(),
        source: 0x0102_0304_0506_0708,
        lane: 1,
        lane_seq: 7,
        class: DeliveryClass::Reliable.into(),
        payload: Bytes::from_static(b"M5"),
        ..Default::default()
    }
}

fn refused(event: &wire::Event) -> ErrorCode {
    EventView::decode(&event.encode_to_vec()).expect_err("refused").code
}

#[test]
fn bytes_are_pinned() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let event = quake().encode_to_vec();
    assert_eq!(
        hex(&event),
        "0a220a056561727468110000000000000840190000000000\
         0010c021000000000000164\
         01a057175616b6521080706050403020128013007380\
         17a024d35"
            .replace(char::is_whitespace, "")
    );
    let mut out = BytesMut::new();
    encode_deliver(300, DeliverFlags::default(), &event, &mut out);
    assert_eq!(hex(&out), format!("4512430 8ac027a{:02x}{}", event.len(), hex(&event)).replace(' ', ""));
}

#[test]
fn bad_events_are_refused_by_name() {
    let with = |change: &dyn Fn(&mut wire::Place)| {
        let mut event = quake();
        if let Some(wire::event::Target::Place(place)) = &mut event.target {
            change(place);
        }
        event
    };
    assert_eq!(refused(&with(&|p| p.x = f64::NAN)), ErrorCode::InvalidGeometry);
    assert_eq!(refused(&with(&|p| p.y = f64::INFINITY)), ErrorCode::InvalidGeometry);
    assert_eq!(refused(&with(&|p| p.radius = -0.5)), ErrorCode::InvalidGeometry);
    assert_eq!(refused(&with(&|p| p.world = "no spaces".into())), ErrorCode::InvalidName);
    assert_eq!(refused(&wire::Event { target: None, ..quake() }), ErrorCode::InvalidArgument);
    assert_eq!(refused(&wire::Event { lane_seq: 0, ..quake() }), ErrorCode::InvalidArgument);
    assert_eq!(refused(&wire::Event { class: 9, ..quake() }), ErrorCode::InvalidArgument);
    assert_eq!(refused(&wire::Event { key: "k".into(), ..quake() }), ErrorCode::InvalidArgument);
    assert_eq!(
        refused(&wire::Event { class: DeliveryClass::State.into(), key: String::new(), ..quake() }),
        ErrorCode::InvalidName
    );
    let topic = |t: &str| wire::Event { target: Some(wire::event::Target::Topic(t.into())), ..quake() };
    assert_eq!(refused(&topic("a.*")), ErrorCode::InvalidName);
    assert_eq!(refused(&wire::Event { reply_to: "a b".into(), ..quake() }), ErrorCode::InvalidName);
    assert_eq!(refused(&wire::Event { kind: "a b".into(), ..quake() }), ErrorCode::InvalidName);
    for (kind, reply_to) in [("", ""), ("quake", "_inbox.65.1")] {
        let event = wire::Event { kind: kind.into(), reply_to: reply_to.into(), ..quake() };
        assert!(
            EventView::decode(&event.encode_to_vec()).is_ok_and(|view| same(&view, &event)),
            "{kind:?} {reply_to:?}"
        );
    }
    let traced = |bytes| wire::Event { traceparent: "0".repeat(bytes), ..quake() };
    assert_eq!(refused(&traced(65)), ErrorCode::InvalidArgument);
    assert_eq!(EventView::decode(&traced(64).encode_to_vec()).map(|view| view.traceparent.len()), Ok(64));
}

/// Fields of later versions, of every wire type: each is passed over, and what follows it is read.
#[test]
fn fields_of_the_future_are_passed_over() {
    let (before, after) = (quake().encode_to_vec(), wire::Event { lane_seq: 9, ..Default::default() }.encode_to_vec());
    for unknown in [
        &[0xa0, 0x06, 0x96, 0x01][..],
        &[0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xa2, 0x06, 2, 0x08, 0x05],
        &[0xa5, 0x06, 1, 2, 3, 4],
    ] {
        let bytes = [&before[..], unknown, &after].concat();
        let view = EventView::decode(&bytes).unwrap();
        assert!(same(&view, &wire::Event { lane_seq: 9, ..quake() }), "{unknown:02x?}");
        assert!(EventView::decode(&[&before[..], &unknown[..3]].concat()).is_err(), "{unknown:02x?} cut short");
    }
}

#[test]
fn what_is_missing_is_written_as_a_frame() {
    let read = |out: BytesMut| decode_server_frame(out.freeze().slice(1..));
    let mut out = BytesMut::new();
    encode_gap(3, 5, wire::GapReason::Evicted, &mut out);
    let gap = wire::Gap { from_seq: 3, to_seq: 5, reason: wire::GapReason::Evicted.into() };
    assert_eq!(read(out), Ok(server_frame::Frame::Gap(gap)));
    let mut out = BytesMut::new();
    encode_datagrams(3, 5, &mut out);
    assert_eq!(read(out), Ok(server_frame::Frame::Datagrams(wire::Datagrams { from_seq: 3, to_seq: 5 })));
}

#[test]
fn events_beyond_a_limit_are_refused_by_name() {
    let limits = Limits { payload_bytes_max: 4, radius_max: 10.0, coordinate_abs_max: 100.0, ..Limits::default() };
    let code = |event: &wire::Event| {
        EventView::decode(&event.encode_to_vec()).unwrap().check_limits(&limits).map_err(|refusal| refusal.code)
    };
    assert_eq!(code(&quake()), Ok(()));
    assert_eq!(code(&wire::Event { payload: vec![0; 5].into(), ..quake() }), Err(ErrorCode::PayloadTooLarge));
    assert_eq!(code(&wire::Event { lane: 16, ..quake() }), Err(ErrorCode::InvalidArgument));
    let place = |x, y, radius| wire::Event {
        target: Some(wire::event::Target::Place(wire::Place { world: "earth".into(), x, y, radius })),
        ..quake()
    };
    for beyond in [place(100.5, 0.0, 0.0), place(0.0, -100.5, 0.0), place(0.0, 0.0, 10.5)] {
        assert_eq!(code(&beyond), Err(ErrorCode::GeometryOutOfRange), "{beyond:?}");
    }
    // Each limit itself is permitted.
    let edge = wire::Event { payload: vec![0; 4].into(), lane: 15, ..place(-100.0, 100.0, 10.0) };
    assert_eq!(code(&edge), Ok(()));
    let told = EventView::decode(&place(0.0, 100.5, 0.0).encode_to_vec()).unwrap().check_limits(&limits).unwrap_err();
    assert!(told.message.starts_with("y is 100.5"), "{told}");
}

#[test]
fn a_refused_event_is_named_where_it_can_be() {
    let bytes = wire::Event { target: None, lane: 3, lane_seq: 70_000, ..quake() }.encode_to_vec();
    assert!(EventView::decode(&bytes).is_err());
    assert_eq!(EventView::position_of_refused(&bytes), (3, 70_000));
    assert_eq!(EventView::position_of_refused(&bytes[..bytes.len() - 1]), (0, 0), "cut short");
}

#[test]
fn zones_beyond_a_limit_are_refused_by_name() {
    let limits = Limits { coordinate_abs_max: 100.0, zone_area_max: 50.0, ..Limits::default() };
    let told = |zone: &Zone| limits.check_zone(zone).map_err(|refusal| (refusal.code, refusal.message)).unwrap_err();
    assert!(limits.check_zone(&Zone::new(0.0, 0.0, 5.0, 10.0).unwrap()).is_ok());
    assert!(limits.check_zone(&Zone::new(-100.0, 0.0, 100.0, 0.0).unwrap()).is_ok(), "a line has no area");
    for (zone, name) in [
        (Zone::new(0.0, 0.0, 5.1, 10.0).unwrap(), "zone_area_max"),
        (Zone::new(-100.1, 0.0, 0.0, 0.0).unwrap(), "min_x is -100.1"),
        (Zone::new(0.0, -100.1, 0.0, 0.0).unwrap(), "min_y is -100.1"),
        (Zone::new(0.0, 0.0, 100.1, 0.0).unwrap(), "max_x is 100.1"),
        (Zone::new(0.0, 0.0, 1.0, 100.1).unwrap(), "max_y is 100.1; at most ±100 is permitted (coordinate_abs_max)"),
    ] {
        let (code, message) = told(&zone);
        assert_eq!(code, ErrorCode::GeometryOutOfRange);
        assert!(message.contains(name), "{message}");
    }
    let told = wire::Limits { frame_bytes_max: 1, payload_bytes_max: 2, zones_per_session_max: 3, ..(&limits).into() };
    assert_eq!(wire::Limits::from(&Limits::from(&told)), told, "a broker's limits are what it says");
    // By default the coordinates alone decide.
    let all = Limits::default();
    let edge = all.coordinate_abs_max;
    assert!(all.check_zone(&Zone::new(-edge, -edge, edge, edge).unwrap()).is_ok());
    let silent = wire::Limits { zone_area_max: 0.0, ..(&all).into() };
    assert_eq!(Limits::from(&silent).zone_area_max, f64::INFINITY, "an older broker does not say");
}

#[test]
fn a_length_prefix_of_four_gib_allocates_nothing() {
    let mut cutter = FrameCutter::new(1024);
    cutter.push(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]));
    assert_eq!(cutter.next_frame(), Err(FrameError::TooLarge { length: u64::from(u32::MAX), frame_bytes_max: 1024 }));
    let mut cutter = FrameCutter::new(1024);
    cutter.push(Bytes::from_static(&[0x80; 5]));
    assert_eq!(cutter.next_frame(), Err(FrameError::BadLength));
}

#[test]
fn a_truncated_frame_is_told_from_an_orderly_end() {
    let mut cutter = FrameCutter::new(1024);
    assert_eq!(cutter.finish(), Ok(()));
    cutter.push(Bytes::from_static(&[3, 1, 2]));
    assert_eq!(cutter.next_frame(), Ok(None));
    assert_eq!(cutter.finish(), Err(FrameError::Truncated { received: 3 }));
}

#[test]
fn what_nobody_has_read_yet_is_truncated_too() {
    let mut cutter = FrameCutter::new(1024);
    cutter.push(Bytes::from_static(&[3, 1]));
    assert_eq!(cutter.finish(), Err(FrameError::Truncated { received: 2 }));
    cutter.push(Bytes::from_static(&[2]));
    assert_eq!(cutter.finish(), Err(FrameError::Truncated { received: 3 }));
}

/// By WIRE.md §2.
#[test]
fn each_fault_of_framing_has_its_code() {
    let too_large = FrameError::TooLarge { length: 2, frame_bytes_max: 1 };
    let malformed = decode_client_frame(Bytes::from_static(&[0x0a, 0x05])).unwrap_err();
    for (error, code, label) in [
        (too_large, ErrorCode::FrameTooLarge, "FRAME_TOO_LARGE"),
        (FrameError::BadLength, ErrorCode::MalformedFrame, "MALFORMED_FRAME"),
        (FrameError::Truncated { received: 1 }, ErrorCode::MalformedFrame, "MALFORMED_FRAME"),
        (malformed, ErrorCode::MalformedFrame, "MALFORMED_FRAME"),
        (FrameError::Unknown, ErrorCode::UnknownFrame, "UNKNOWN_FRAME"),
        (FrameError::Unexpected { frame: "a", place: "b" }, ErrorCode::UnexpectedFrame, "UNEXPECTED_FRAME"),
        (FrameError::Impossible { frame: "a", problem: "b".into() }, ErrorCode::UnexpectedFrame, "UNEXPECTED_FRAME"),
    ] {
        assert_eq!((error.code(), error.label()), (code, label), "{error}");
    }
}

#[test]
fn a_frame_of_the_future_is_unknown_not_malformed() {
    // Field 100, length-delimited, empty.
    let frame = Bytes::from_static(&[0xa2, 0x06, 0x00]);
    assert_eq!(decode_client_frame(frame.clone()), Err(FrameError::Unknown));
    assert_eq!(decode_server_frame(frame), Err(FrameError::Unknown));
    assert!(matches!(decode_client_frame(Bytes::from_static(&[0x0a, 0x05])), Err(FrameError::Malformed(_))));
}

fn any_target() -> impl Strategy<Value = Option<wire::event::Target>> {
    let number = prop_oneof![any::<f64>(), -100.0..100.0];
    prop_oneof![
        8 => ("[a-z]{0,3}", number.clone(), number.clone(), number).prop_map(|(world, x, y, radius)| {
            Some(wire::event::Target::Place(wire::Place { world, x, y, radius }))
        }),
        4 => "[a-z.*]{0,6}".prop_map(|topic| Some(wire::event::Target::Topic(topic))),
        1 => Just(None),
    ]
}

prop_compose! {
    fn any_event()(
        target in any_target(), kind in "[a-z ]{0,4}", source: u64, lane in 0..300_u32, lane_seq in 0..3_u64,
        class in -1..5_i32, key in "[a-zé]{0,3}", reply_to in "[a-z.]{0,4}", published_at_us: u64,
        traceparent in "[0-9a-f-]{0,5}", payload: Vec<u8>,
    ) -> wire::Event {
        wire::Event {
            target, kind, source, lane, lane_seq, class, key, reply_to, published_at_us, traceparent,
            payload: payload.into(),
        }
    }
}

/// What [`EventView`] must see in an event, told in terms of the decoded message.
fn same(view: &EventView<'_>, event: &wire::Event) -> bool {
    let target = match (&view.target, &event.target) {
        (Target::Place { world, circle }, Some(wire::event::Target::Place(place))) => {
            *world == place.world && Ok(*circle) == Circle::new(place.x, place.y, place.radius)
        }
        (Target::Topic(topic), Some(wire::event::Target::Topic(other))) => topic == other,
        _ => false,
    };
    let class = if event.class == 0 { DeliveryClass::Reliable.into() } else { event.class };
    target
        && view.kind == event.kind
        && (view.source, view.lane, view.lane_seq) == (event.source, event.lane, event.lane_seq)
        && i32::from(view.class) == class
        && (view.key, view.reply_to) == (event.key.as_str(), event.reply_to.as_str())
        && view.published_at_us == event.published_at_us
        && view.traceparent == event.traceparent
        && view.payload == event.payload
}

proptest! {
    #[test]
    fn the_borrowed_view_reads_what_prost_reads(event in any_event()) {
        let bytes = event.encode_to_vec();
        if let Ok(view) = EventView::decode(&bytes) {
            prop_assert!(same(&view, &event));
        }
    }

    /// Two encodings in a row are one message to protobuf: later fields win, sub-messages merge.
    #[test]
    fn repeated_fields_are_merged_as_protobuf_says(a in any_event(), b in any_event()) {
        let bytes = [a.encode_to_vec(), b.encode_to_vec()].concat();
        let merged = wire::Event::decode(&bytes[..]).expect("two encoded messages");
        if let Ok(view) = EventView::decode(&bytes) {
            prop_assert!(same(&view, &merged));
        } else {
            prop_assert!(EventView::decode(&merged.encode_to_vec()).is_err());
        }
    }

    #[test]
    fn mutated_bytes_never_panic(event in any_event(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = event.encode_to_vec();
        bytes.push(0);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        let view = EventView::decode(&bytes);
        if wire::Event::decode(&bytes[..]).is_err() {
            prop_assert!(view.is_err());
        }
        let _ = EventView::position_of_refused(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = EventView::decode(&bytes);
        let _ = decode_client_frame(bytes.clone().into());
        let _ = decode_server_frame(bytes.clone().into());
        let mut cutter = FrameCutter::new(64);
        cutter.push(bytes.into());
        while let Ok(Some(frame)) = cutter.next_frame() {
            prop_assert!(frame.len() <= 64);
        }
    }

    /// However a stream is cut into chunks, and however many of them come before one looks, the same frames come out.
    #[test]
    fn frames_survive_any_chunking(
        nonces in prop::collection::vec(any::<u64>(), 1..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        chunks_at_once in 1..5_usize,
    ) {
        let mut stream = BytesMut::new();
        for nonce in &nonces {
            encode_client_frame(client_frame::Frame::Ping(wire::Ping { nonce: *nonce }), &mut stream);
        }
        let stream = stream.freeze();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut cutter = FrameCutter::new(1024);
        let mut read = Vec::new();
        for (at, pair) in cuts.windows(2).enumerate() {
            cutter.push(stream.slice(pair[0]..pair[1]));
            if (at + 1) % chunks_at_once != 0 && pair[1] < stream.len() {
                continue;
            }
            while let Some(frame) = cutter.next_frame().unwrap() {
                match decode_client_frame(frame).unwrap() {
                    client_frame::Frame::Ping(ping) => read.push(ping.nonce),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
        prop_assert_eq!(cutter.finish(), Ok(()));
        prop_assert_eq!(read, nonces);
    }

    /// The first of two frames is measured with its prefix, and only where all of it is there.
    #[test]
    fn the_first_frame_is_measured(frame in prop::collection::vec(any::<u8>(), 0..300), more: Vec<u8>) {
        let mut first = Vec::new();
        prost::encode_length_delimiter(frame.len(), &mut first).unwrap();
        first.extend(frame);
        prop_assert_eq!(first_frame_bytes(&[&first[..], &more[..]].concat()), Some(first.len()));
        for cut in 0..first.len() {
            prop_assert_eq!(first_frame_bytes(&first[..cut]), None);
        }
    }

    #[test]
    fn the_delivery_encoder_equals_prost(seq: u64, resent: bool, await_processing: bool, event: Vec<u8>) {
        let (mut quick, mut plain) = (BytesMut::new(), BytesMut::new());
        let flags = DeliverFlags { resent, await_processing };
        encode_deliver(seq, flags, &event, &mut quick);
        let datagram = encode_deliver_datagram(seq, flags, &event);
        let read = EncodedDeliver { seq, flags, event: &event, frame_bytes: quick.len() };
        let followed = [&quick[..], &event[..]].concat();
        prop_assert_eq!(first_encoded_deliver(&followed), Some(read));
        prop_assert_eq!(first_encoded_deliver(&quick[..quick.len() - 1]), None);
        let deliver = wire::Deliver { seq, resent, await_processing, event: event.into() };
        // An empty bytes field is left out by prost and written by us; both decode alike.
        if !deliver.event.is_empty() {
            encode_server_frame(server_frame::Frame::Deliver(deliver.clone()), &mut plain);
            prop_assert_eq!(&quick, &plain);
        }
        let mut cutter = FrameCutter::new(u32::MAX);
        cutter.push(quick.freeze());
        let frame = cutter.next_frame().unwrap().unwrap();
        prop_assert_eq!(&frame, &datagram);
        prop_assert_eq!(decode_server_frame(frame), Ok(server_frame::Frame::Deliver(deliver)));
    }
}
