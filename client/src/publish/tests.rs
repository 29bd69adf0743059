use bytes::BytesMut;
use proptest::prelude::*;
use prost::Message as _;
use zonecast_protocol::{AckLevel, codec, wire, wire::client_frame::Frame};

use super::*;

/// Decodes a frame with the generated code.
fn decoded(bytes: BytesMut) -> (wire::Publish, wire::Event) {
    let mut cutter = codec::FrameCutter::new(u32::MAX);
    cutter.push(bytes.freeze());
    let frame = cutter.next_frame().unwrap().unwrap();
    cutter.finish().unwrap();
    let Frame::Publish(publish) = codec::decode_client_frame(frame).unwrap() else { panic!("a publish") };
    let event = wire::Event::decode(publish.event.clone()).unwrap();
    assert_eq!(event.encode_to_vec(), publish.event, "canonical, as the generated code would write it");
    (publish, event)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(-0.0), -1e12..1e12]
}

fn aim() -> impl Strategy<Value = Aim<'static>> {
    let place = ("[a-z.-]{1,64}", number(), number(), 0.0..1e6).prop_map(|(world, x, y, radius)| Aim::Place {
        world: world.into(),
        circle: Circle::new(x, y, radius).unwrap(),
    });
    let topic = "[a-z]{1,20}(\\.[a-z]{1,20}){0,5}".prop_map(|topic| Aim::Topic(topic.into()));
    prop_oneof![place, topic]
}

prop_compose! {
    fn publish()(
        aim in aim(),
        texts in ("[a-z]{0,64}", "([a-z]{1,9}\\.[a-z]{1,9})?", "[0-9a-f-]{0,64}", ".{1,20}"),
        numbers in (any::<u8>(), any::<Option<u64>>(), any::<bool>(), any::<bool>(), 1..=u64::from(u32::MAX)),
        class in 1..=3,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) -> Publish<'static> {
        let (kind, reply_to, traceparent, key) = texts;
        let class = DeliveryClass::try_from(class).unwrap();
        let (lane, published_at_us, exclude_self, require_match, expires_in_ms) = numbers;
        let expires_in = Duration::from_millis(expires_in_ms);
        let key = if class == DeliveryClass::State { key } else { String::new() };
        Publish {
            aim, lane, class, published_at_us, exclude_self, require_match, expires_in,
            kind: kind.into(), key: key.into(), reply_to: reply_to.into(), traceparent: traceparent.into(),
            payload: payload.into(),
        }
    }
}

proptest! {
    #[test]
    fn frames_decode_to_what_was_published(publish in publish(), source: u64, lane_seq in 1..=u64::MAX, ack in 0..=2) {
        let ack = AckLevel::try_from(ack).unwrap();
        let stamp = Stamp { source, lane_seq, published_at_us: 5 };
        let mut bytes = BytesMut::new();
        publish.encode(&stamp, ack, &mut bytes);
        prop_assert!(bytes.len() <= publish.frame_bytes_max());
        let bytes = bytes.freeze();
        let (again, _) = decoded(flag_resent(&bytes)[..].into());
        let (frame, event) = decoded(bytes[..].into());
        prop_assert_eq!(again, wire::Publish { resent: true, ..frame.clone() });
        prop_assert_eq!((frame.ack(), frame.exclude_self, frame.resent), (ack, publish.exclude_self, false));
        prop_assert_eq!(frame.require_match, publish.require_match);
        let expires_in = if ack == AckLevel::Processed { publish.expires_in } else { Duration::ZERO };
        prop_assert_eq!(Duration::from_millis(frame.expires_in_ms.into()), expires_in);
        match (&publish.aim, event.target.clone().unwrap()) {
            (Aim::Place { world, circle }, wire::event::Target::Place(place)) => {
                prop_assert_eq!(world.as_ref(), &place.world);
                prop_assert_eq!((circle.x(), circle.y(), circle.radius()), (place.x, place.y, place.radius));
            }
            (Aim::Topic(topic), wire::event::Target::Topic(found)) => prop_assert_eq!(topic.as_ref(), &found),
            _ => prop_assert!(false, "the target changed"),
        }
        prop_assert_eq!((event.source, event.lane, event.lane_seq), (source, publish.lane.into(), lane_seq));
        prop_assert_eq!(event.published_at_us, publish.published_at_us.unwrap_or(5));
        prop_assert_eq!((event.class(), &event.key[..]), (publish.class, &*publish.key));
        prop_assert_eq!((&event.kind[..], &event.reply_to[..]), (&*publish.kind, &*publish.reply_to));
        prop_assert_eq!(&event.traceparent[..], &*publish.traceparent);
        prop_assert_eq!(&event.payload[..], publish.payload.as_slice());
    }

    /// What passes the check here passes the broker's, and what does not is refused there with the same code.
    #[test]
    fn the_check_agrees_with_the_brokers(publish in publish()) {
        let limits = Limits::default();
        let mut bytes = BytesMut::new();
        publish.encode(&Stamp { source: 1, lane_seq: 1, published_at_us: 1 }, AckLevel::Routed, &mut bytes);
        let (frame, _) = decoded(bytes);
        let theirs = EventView::decode(&frame.event).and_then(|view| view.check_limits(&limits));
        prop_assert_eq!(publish.check(&limits, AckLevel::Routed), theirs);
    }
}

#[test]
fn nonsense_is_refused_before_it_is_sent() {
    let limits = Limits::default();
    let code = |publish: Publish<'_>| publish.check(&limits, publish.least_ack()).unwrap_err().code;
    let circle = Circle::new(0.0, 0.0, 1.0).unwrap();
    assert_eq!(code(Publish::at("no spaces", circle)), ErrorCode::InvalidName);
    assert_eq!(code(Publish::to_topic("a.*")), ErrorCode::InvalidName);
    assert_eq!(code(Publish::to_topic("a").lane(16)), ErrorCode::InvalidArgument);
    assert_eq!(code(Publish::to_topic("a").key("k")), ErrorCode::InvalidArgument);
    assert_eq!(code(Publish::to_topic("a").class(DeliveryClass::State)), ErrorCode::InvalidName);
    assert_eq!(code(Publish::to_topic("a").payload(vec![0; 1 << 21])), ErrorCode::PayloadTooLarge);
    assert_eq!(code(Publish::at("w", Circle::new(0.0, 0.0, 1e7).unwrap())), ErrorCode::GeometryOutOfRange);
    let transient = || Publish::to_topic("a").class(DeliveryClass::Transient);
    assert_eq!(code(transient().require_match()), ErrorCode::InvalidArgument);
    assert_eq!(transient().require_match().check(&limits, AckLevel::Routed), Ok(()));
    assert!(transient().check(&limits, AckLevel::Processed).is_err());
    assert_eq!(Publish::to_topic("a").check(&limits, AckLevel::Processed), Ok(()));
}
