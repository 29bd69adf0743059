//! An event as a publisher encoded it: the view in place must read what prost reads, and refuse what cannot be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use zonecast_protocol::{EventView, Limits, Target, wire};

fuzz_target!(|input: &[u8]| {
    let _ = EventView::position_of_refused(input);
    let Ok(view) = EventView::decode(input) else { return };
    let event = wire::Event::decode(input).expect("what the view reads, prost reads");
    assert_eq!(view.kind, event.kind);
    assert_eq!((view.source, view.lane, view.lane_seq), (event.source, event.lane, event.lane_seq));
    assert_eq!((view.key, view.reply_to, view.traceparent), (&*event.key, &*event.reply_to, &*event.traceparent));
    assert_eq!((view.published_at_us, view.payload), (event.published_at_us, &*event.payload));
    match (view.target, event.target.expect("an event without a target is refused")) {
        (Target::Topic(topic), wire::event::Target::Topic(read)) => assert_eq!(topic, read),
        (Target::Place { world, circle }, wire::event::Target::Place(read)) => {
            assert_eq!((world, circle.x(), circle.y(), circle.radius()), (&*read.world, read.x, read.y, read.radius));
        }
        (view, read) => panic!("{view:?} is not {read:?}"),
    }
    assert!(view.lane_seq > 0, "lanes are numbered from 1");
    let _ = view.check_limits(&Limits::default());
});
