//! The hex examples of WIRE.md are what the reference implementation reads and writes.

use bytes::{Bytes, BytesMut};
use zonecast_protocol::codec::{
    FrameCutter, decode_client_frame, decode_server_frame, encode_client_frame, encode_server_frame,
};
use zonecast_protocol::wire::{client_frame, server_frame};
use zonecast_protocol::{Circle, ClientId, EventView, HANDED_OVER_ZONE_ID_MIN, Limits, Target, Zone, source_of};

const WIRE_MD: &str = include_str!("../WIRE.md");

/// The bytes of each example of one side, in order: everything on a line up to `#` is hex.
fn examples(side: &str) -> Vec<Bytes> {
    let opening = format!("```hex {side}\n");
    WIRE_MD.split(&opening).skip(1).map(|rest| parse(rest.split("```").next().unwrap_or(""))).collect()
}

fn parse(block: &str) -> Bytes {
    let hex: String = block.lines().map(|line| line.split('#').next().unwrap_or("")).collect();
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits")).collect()
}

fn only_frame(bytes: &Bytes) -> Bytes {
    let mut cutter = FrameCutter::new(Limits::default().frame_bytes_max);
    cutter.push(bytes.clone());
    let frame = cutter.next_frame().expect("a good prefix").expect("a whole frame");
    assert_eq!(cutter.finish(), Ok(()), "nothing after the frame");
    frame
}

#[test]
fn client_examples_are_read_and_written_alike() {
    let examples = examples("client");
    let mut seen = [false; 9];
    for bytes in &examples {
        let frame = decode_client_frame(only_frame(bytes)).expect("a client frame");
        seen[match &frame {
            client_frame::Frame::Hello(_) => 0,
            client_frame::Frame::UpdateZones(_) => 1,
            client_frame::Frame::HandOverZones(_) => 2,
            client_frame::Frame::UpdateTopics(_) => 3,
            client_frame::Frame::Publish(_) => 4,
            client_frame::Frame::DeliveryAck(_) => 5,
            client_frame::Frame::Ping(_) => 6,
            client_frame::Frame::Goodbye(_) => 7,
            client_frame::Frame::Renew(_) => 8,
        }] = true;
        let mut again = BytesMut::new();
        encode_client_frame(frame, &mut again);
        assert_eq!(again, *bytes);
    }
    assert_eq!(seen, [true; 9], "an example of each");
}

#[test]
fn server_examples_are_read_and_written_alike() {
    let mut seen = [false; 12];
    for bytes in &examples("server") {
        let frame = decode_server_frame(only_frame(bytes)).expect("a server frame");
        seen[match &frame {
            server_frame::Frame::Welcome(_) => 0,
            server_frame::Frame::Deliver(_) => 1,
            server_frame::Frame::Gap(_) => 2,
            server_frame::Frame::PublishAck(_) => 3,
            server_frame::Frame::PublishRefused(_) => 4,
            server_frame::Frame::InterestApplied(_) => 5,
            server_frame::Frame::RequestRefused(_) => 6,
            server_frame::Frame::ZonesReceived(_) => 7,
            server_frame::Frame::GoAway(_) => 8,
            server_frame::Frame::Pong(_) => 9,
            server_frame::Frame::Datagrams(_) => 10,
            server_frame::Frame::Renewed(_) => 11,
        }] = true;
        let mut again = BytesMut::new();
        encode_server_frame(frame, &mut again);
        assert_eq!(again, *bytes);
    }
    assert_eq!(seen, [true; 12], "an example of each");
}

#[test]
fn the_example_event_touches_the_example_zone_and_names_its_source() {
    let frames = examples("client").into_iter().map(|bytes| decode_client_frame(only_frame(&bytes)).unwrap());
    let (mut zone, mut circle, mut source) = (None, None, None);
    for frame in frames {
        match frame {
            client_frame::Frame::UpdateZones(update) => {
                let z = &update.upsert[0];
                zone = Some(Zone::new(z.min_x, z.min_y, z.max_x, z.max_y).unwrap());
            }
            client_frame::Frame::Publish(publish) => {
                let view = EventView::decode(&publish.event).unwrap();
                source = Some(view.source);
                let Target::Place { circle: place, .. } = view.target else { panic!("a place") };
                circle = Some(place);
            }
            client_frame::Frame::Hello(hello) => {
                let id = ClientId::new(&hello.client_id).unwrap();
                assert!(WIRE_MD.contains(&format!("_inbox.{:016x}.>", source_of(&id, hello.incarnation))));
            }
            _ => {}
        }
    }
    assert!(zone.unwrap().touches(&circle.unwrap()));
    let beside = Circle::new(103.0, 54.0, 5.0_f64.next_down()).unwrap();
    assert!(!zone.unwrap().touches(&beside), "it only just touches");
    assert_eq!(source, Some(source_of(&ClientId::new("zone-server-7").unwrap(), 1)));
}

#[test]
fn the_stated_defaults_are_the_defaults() {
    let limits = Limits::default();
    let thousands = |n: u32| {
        let digits = n.to_string();
        let from_right = |at: usize| digits.len() - at;
        digits.chars().enumerate().fold(String::new(), |mut text, (at, digit)| {
            if at > 0 && from_right(at) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
            text
        })
    };
    for (name, value) in [
        ("frame_bytes_max", thousands(limits.frame_bytes_max)),
        ("payload_bytes_max", thousands(limits.payload_bytes_max)),
        ("zones_per_session_max", thousands(limits.zones_per_session_max)),
        ("kinds_per_zone_max", thousands(limits.kinds_per_zone_max)),
        ("topics_per_session_max", thousands(limits.topics_per_session_max)),
        ("radius_max", "1,000,000".to_owned()),
        ("coordinate_abs_max", "1e12".to_owned()),
        ("zone_area_max", "4e24".to_owned()),
        ("lanes_max", thousands(limits.lanes_max)),
    ] {
        assert!(WIRE_MD.contains(&format!("| `{name}` | {value} |")), "{name} {value}");
    }
    assert!((limits.radius_max - 1e6).abs() < f64::EPSILON && (limits.coordinate_abs_max - 1e12).abs() < f64::EPSILON);
    assert!((limits.zone_area_max - 4e24).abs() < f64::EPSILON);
    assert!(WIRE_MD.contains(&format!("the broker ({HANDED_OVER_ZONE_ID_MIN} and up)")));
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let (_, promises) = WIRE_MD.split_once("## 9.").expect("section 9");
    let mut held = 0;
    for row in promises.lines().filter(|line| line.ends_with("` |")) {
        let (file, test) =
            row.rsplit('`').nth(1).and_then(|test| test.split_once(':')).expect("the file and the name of a test");
        let path = format!("{workspace}/{file}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
        held += 1;
    }
    assert!(held > 20, "{held} promises");
}
