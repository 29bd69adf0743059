//! The outbox against what a receiver may observe, told by separate code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

#[path = "outboxes/sent.rs"]
mod sent;

use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::prelude::*;
use prost::Message;
use sent::{Sent, written};
use zonecast_core::{Arrival, Chunks, Datagrams, Outbox, OutboxLimits, Pushed};
use zonecast_protocol::DeliveryClass;
use zonecast_protocol::codec::{FrameCutter, decode_server_frame};
use zonecast_protocol::wire::{self, server_frame};

#[derive(Debug, Clone)]
enum Op {
    Push { class: DeliveryClass, key: u8, payload_bytes: usize },
    Drain { bytes_max: usize },
}

fn any_op() -> impl Strategy<Value = Op> {
    let class = prop_oneof![
        Just(DeliveryClass::Reliable),
        Just(DeliveryClass::State),
        Just(DeliveryClass::Transient),
        Just(DeliveryClass::Transient),
    ];
    prop_oneof![
        6 => (class, 0..3_u8, 0..200_usize)
            .prop_map(|(class, key, payload_bytes)| Op::Push { class, key, payload_bytes }),
        1 => (0..800_usize).prop_map(|bytes_max| Op::Drain { bytes_max }),
    ]
}

/// An event that tells its number in the test by its `lane_seq`.
fn event(number: u64, class: DeliveryClass, key: u8, payload_bytes: usize) -> Sent {
    let state_key = if class == DeliveryClass::State { format!("k{key}") } else { String::new() };
    let event = wire::Event {
        target: Some(wire::event::Target::Topic("t".to_owned())),
        lane_seq: number,
        class: class.into(),
        key: state_key,
        payload: vec![0; payload_bytes].into(),
        ..Default::default()
    };
    Sent::new(&event, Arrival { at_us: number, ..Arrival::default() })
}

/// What the pushes so far oblige the outbox to show, by the rules of WIRE.md §6 alone.
#[derive(Default)]
struct Model {
    /// Reliable events not yet shown, oldest first.
    reliable: std::collections::VecDeque<u64>,
    /// The latest value of each key not yet shown.
    state: BTreeMap<u8, u64>,
    /// All transient events pushed and not yet shown.
    transient: std::collections::VecDeque<u64>,
    /// Deliveries numbered by the outbox: every push but those that replaced or overflowed.
    numbered: u64,
    next_seq_shown: u64,
    /// Deliveries that a gap has announced as missing.
    missing: u64,
}

impl Model {
    fn show(&mut self, frame: server_frame::Frame) -> Result<(), TestCaseError> {
        match frame {
            server_frame::Frame::Gap(gap) => {
                prop_assert_eq!(gap.from_seq, self.next_seq_shown + 1);
                prop_assert!(gap.to_seq >= gap.from_seq);
                self.missing += gap.to_seq - gap.from_seq + 1;
                self.next_seq_shown = gap.to_seq;
            }
            server_frame::Frame::Deliver(deliver) => {
                prop_assert_eq!(deliver.seq, self.next_seq_shown + 1, "jumps are announced");
                self.next_seq_shown = deliver.seq;
                let event = wire::Event::decode(deliver.event).unwrap();
                match event.class() {
                    DeliveryClass::State => {
                        let key = event.key.as_bytes()[1] - b'0';
                        prop_assert_eq!(self.state.remove(&key), Some(event.lane_seq), "the latest value");
                    }
                    DeliveryClass::Transient => {
                        let at = self.transient.iter().position(|number| *number == event.lane_seq);
                        prop_assert!(at.is_some(), "each at most once, in order");
                        self.transient.drain(..=at.unwrap());
                    }
                    _ => prop_assert_eq!(self.reliable.pop_front(), Some(event.lane_seq), "all, in order"),
                }
            }
            other => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn show_all(&mut self, bytes: BytesMut) -> Result<(), TestCaseError> {
        let mut cutter = FrameCutter::new(4096);
        cutter.push(bytes.freeze());
        while let Some(frame) = cutter.next_frame().unwrap() {
            self.show(decode_server_frame(frame).unwrap())?;
        }
        prop_assert_eq!(cutter.finish(), Ok(()));
        Ok(())
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_without_a_gap_and_bounds_hold(ops in prop::collection::vec(any_op(), 0..200)) {
        let limits = OutboxLimits { deliveries_max: 8, bytes_max: 900, deliveries_soft: 4, bytes_soft: 400 };
        let mut outbox = Outbox::new(limits, false);
        let mut model = Model::default();
        let mut overflowed = false;
        for (number, op) in (1..).zip(ops) {
            match op {
                Op::Push { class, key, payload_bytes } => {
                    let event = event(number, class, key, payload_bytes);
                    let length = event.outbound().bytes().len();
                    let was = (outbox.len(), outbox.bytes());
                    let pushed = outbox.push(&event.outbound());
                    if overflowed {
                        prop_assert_eq!(pushed, Pushed::Overflow, "nothing is queued behind what was lost");
                        continue;
                    }
                    overflowed = pushed == Pushed::Overflow;
                    match pushed {
                        Pushed::Queued | Pushed::Dropped => model.numbered += 1,
                        Pushed::Replaced | Pushed::Overflow => {}
                    }
                    match (pushed, class) {
                        (Pushed::Queued, DeliveryClass::Reliable) => model.reliable.push_back(number),
                        (Pushed::Queued, DeliveryClass::Transient) => model.transient.push_back(number),
                        (Pushed::Queued, DeliveryClass::State) => {
                            prop_assert_eq!(model.state.insert(key, number), None, "a waiting value is replaced");
                        }
                        (Pushed::Replaced, DeliveryClass::State) => {
                            prop_assert!(model.state.insert(key, number).is_some());
                        }
                        (Pushed::Dropped, DeliveryClass::Transient) | (Pushed::Overflow, DeliveryClass::Reliable | DeliveryClass::State) => {
                            let full = was.0 >= limits.deliveries_max || was.1 + length > limits.bytes_max;
                            prop_assert!(full, "refused only when full");
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Op::Drain { bytes_max } => {
                    let mut out = Chunks::default();
                    let _ = outbox.drain(&mut out, bytes_max, &mut Datagrams::default(), number, |_, _| {});
                    model.show_all(written(out))?;
                }
            }
            prop_assert!(outbox.len() <= limits.deliveries_max && outbox.bytes() <= limits.bytes_max);
            prop_assert!(!outbox.is_over_soft_mark(0) || outbox.len() >= limits.deliveries_soft || outbox.bytes() >= limits.bytes_soft);
            prop_assert!(outbox.is_over_soft_mark(0) || model.reliable.len() + model.state.len() < limits.deliveries_soft);
        }
        let mut out = Chunks::default();
        let _ = outbox.drain(&mut out, usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
        model.show_all(written(out))?;
        prop_assert!(outbox.is_empty());
        prop_assert_eq!((outbox.len(), outbox.bytes()), (0, 0));
        prop_assert!(model.reliable.is_empty() && model.state.is_empty());
        prop_assert_eq!(model.next_seq_shown, model.numbered, "every number is shown or announced as missing");
        prop_assert_eq!(model.missing, outbox.dropped_total());
    }
}

#[test]
fn the_oldest_transient_events_give_way() {
    let limits = OutboxLimits { deliveries_max: 3, ..OutboxLimits::default() };
    let mut outbox = Outbox::new(limits, false);
    for (number, class) in (1..).zip([
        DeliveryClass::Transient,
        DeliveryClass::Reliable,
        DeliveryClass::Transient,
        DeliveryClass::Reliable,
        DeliveryClass::Reliable,
    ]) {
        assert_eq!(outbox.push(&event(number, class, 0, 1).outbound()), Pushed::Queued);
    }
    assert_eq!(outbox.push(&event(6, DeliveryClass::Transient, 0, 1).outbound()), Pushed::Dropped);
    assert_eq!(outbox.push(&event(7, DeliveryClass::Reliable, 0, 1).outbound()), Pushed::Overflow);
    let mut out = Chunks::default();
    let drained = outbox
        .drain(&mut out, usize::MAX, &mut Datagrams::default(), 100, |waited, _| assert!((95..=98).contains(&waited)));
    assert_eq!((drained.deliveries, drained.gaps), (3, 3), "before 2, before 4, after 5");
    assert_eq!(outbox.dropped_total(), 3);
}

#[test]
fn a_drain_ends_when_it_has_enough() {
    let mut outbox = Outbox::new(OutboxLimits::default(), false);
    let drain = |outbox: &mut Outbox, bytes_max| {
        let mut out = Chunks::default();
        (outbox.drain(&mut out, bytes_max, &mut Datagrams::default(), 0, |_, _| {}).deliveries, out.len())
    };
    for number in 1..=4 {
        assert_eq!(outbox.push(&event(number, DeliveryClass::Reliable, 0, 1).outbound()), Pushed::Queued);
    }
    assert_eq!(drain(&mut outbox, 0).0, 0);
    let (one, bytes) = drain(&mut outbox, 1);
    assert_eq!((one, drain(&mut outbox, bytes)), (1, (1, bytes)), "exactly full is full");
    assert_eq!(drain(&mut outbox, bytes + 1), (2, 2 * bytes));
}

/// It would have their numbers kept without an end.
#[test]
fn who_reads_transient_events_and_never_says_so_is_too_slow() {
    let limits = OutboxLimits { deliveries_max: 10, ..OutboxLimits::default() };
    let mut outbox = Outbox::new(limits, true);
    for number in 1..=20 {
        assert_eq!(outbox.push(&event(number, DeliveryClass::Transient, 0, 1).outbound()), Pushed::Queued);
        let _ = outbox.drain(&mut Chunks::default(), usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
    }
    assert_eq!(outbox.push(&event(21, DeliveryClass::Transient, 0, 1).outbound()), Pushed::Overflow);
}

/// And who does say so is not, however many they were, transient ones and gaps among them.
#[test]
fn numbers_that_were_acknowledged_are_not_kept() {
    let limits = OutboxLimits { deliveries_max: 10, ..OutboxLimits::default() };
    let mut outbox = Outbox::new(limits, true);
    for round in 0..50 {
        for number in 1..=12 {
            let pushed = outbox.push(&event(number, DeliveryClass::Transient, 0, 1).outbound());
            assert_eq!(pushed, Pushed::Queued, "round {round}");
        }
        let _ = outbox.drain(&mut Chunks::default(), usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
        assert_eq!(outbox.acknowledge(12 * (round + 1), &[], |_, _| {}), Ok(()));
    }
}

#[test]
fn transient_events_do_not_give_way_in_vain_and_do_not_hold_publishers_back() {
    let limits = OutboxLimits { deliveries_max: 100, bytes_max: 1_000, deliveries_soft: 3, bytes_soft: 900 };
    let mut outbox = Outbox::new(limits, false);
    for number in 1..=10 {
        assert_eq!(outbox.push(&event(number, DeliveryClass::Transient, 0, 1).outbound()), Pushed::Queued);
    }
    assert!(!outbox.is_over_soft_mark(0));
    assert_eq!(outbox.push(&event(11, DeliveryClass::Reliable, 0, 700).outbound()), Pushed::Queued);
    assert_eq!(outbox.push(&event(12, DeliveryClass::Transient, 0, 600).outbound()), Pushed::Dropped);
    assert_eq!(outbox.len(), 11, "dropping the others would not have made room for it");
    assert_eq!(outbox.push(&event(13, DeliveryClass::Reliable, 0, 600).outbound()), Pushed::Overflow);
    assert_eq!(
        outbox.push(&event(14, DeliveryClass::Reliable, 0, 1).outbound()),
        Pushed::Overflow,
        "or 13 would be lost unseen"
    );
}

#[test]
fn memory_stays_bounded_behind_a_stuck_reliable_event() {
    let limits = OutboxLimits { deliveries_max: 4, ..OutboxLimits::default() };
    let mut outbox = Outbox::new(limits, false);
    assert_eq!(outbox.push(&event(1, DeliveryClass::Reliable, 0, 1).outbound()), Pushed::Queued);
    for number in 2..100_000 {
        assert_eq!(outbox.push(&event(number, DeliveryClass::Transient, 0, 1).outbound()), Pushed::Queued);
    }
    assert_eq!(outbox.len(), 4);
    let mut out = Chunks::default();
    let drained = outbox.drain(&mut out, usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
    assert_eq!((drained.deliveries, drained.gaps), (4, 1));
}

/// Few bytes are copied behind others, many go out as they lie there; either way each byte goes out once, in its place.
#[test]
fn long_runs_are_chunks_of_their_own() {
    let mut outbox = Outbox::new(OutboxLimits::default(), true);
    let push = |outbox: &mut Outbox, class, count: u64, first: u64| {
        for number in first..first + count {
            assert_eq!(outbox.push(&event(number, class, 0, 150).outbound()), Pushed::Queued);
        }
    };
    push(&mut outbox, DeliveryClass::Transient, 2, 1);
    push(&mut outbox, DeliveryClass::Reliable, 10, 3);
    push(&mut outbox, DeliveryClass::Transient, 1, 13);
    push(&mut outbox, DeliveryClass::Reliable, 500, 14);
    let mut out = Chunks::default();
    assert!(out.is_empty());
    let drained = outbox.drain(&mut out, usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
    assert_eq!((drained.deliveries, drained.gaps, out.is_empty()), (513, 0, false));
    let total = out.len();
    let chunks = out.take();
    let sizes: Vec<usize> = chunks.iter().map(bytes::Bytes::len).collect();
    assert_eq!((sizes.iter().sum::<usize>(), out.len(), out.is_empty()), (total, 0, true));
    assert!(sizes[0] < 4_000, "what is short, all in one: {sizes:?}");
    assert!(sizes[1..].len() >= 2 && sizes[1..].iter().all(|size| (4_096..=32_768).contains(size)), "{sizes:?}");
    let mut cutter = FrameCutter::new(4096);
    cutter.push(chunks.concat().into());
    for seq in 1..=513 {
        let frame = decode_server_frame(cutter.next_frame().unwrap().unwrap()).unwrap();
        let server_frame::Frame::Deliver(deliver) = frame else { panic!("{frame:?}") };
        assert_eq!((deliver.seq, wire::Event::decode(deliver.event).unwrap().lane_seq), (seq, seq));
    }
    // A long run that is acknowledged in part keeps the rest.
    assert_eq!((outbox.kept(), outbox.acknowledge(400, &[], |_, _| {})), (510, Ok(())));
    assert_eq!(outbox.kept(), 113);
}
