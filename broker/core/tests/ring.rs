//! Outboxes that inherit from each other, against what a receiver may observe: links are cut at any moment, and whoever
//! comes back must find everything, in order, or be told what is missing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

#[path = "outboxes/run.rs"]
mod small;

use std::collections::BTreeSet;

use proptest::prelude::*;
use small::{
    receiver::Receiver,
    sent::{Sent, written},
};
use zonecast_core::{
    Arrival, Chunks, Datagrams, Outbox, OutboxLimits, Outcome, Pushed, ResumePoint, Succession, Ticket,
};
use zonecast_protocol::DeliveryClass;
use zonecast_protocol::codec::{FrameCutter, decode_server_frame};
use zonecast_protocol::wire::{self, GapReason};

const LIMITS: OutboxLimits =
    OutboxLimits { deliveries_max: 1_000, bytes_max: 1 << 20, deliveries_soft: 1_000, bytes_soft: 1 << 20 };

#[derive(Debug, Clone)]
enum Op {
    Push {
        transient: bool,
        ticket: bool,
    },
    /// Write so many bytes, with so much room for datagrams.
    Drain {
        bytes_max: usize,
        room_bytes: usize,
    },
    /// So many frames of what was written arrive; and every so manyth datagram.
    Arrive {
        frames: usize,
        every: usize,
    },
    /// The client acknowledges what has arrived, and is done with some of what waits for that.
    Acknowledge {
        done: usize,
    },
    /// The link is lost with all that is under way on it, and a new session takes over.
    Cut {
        resumed: bool,
    },
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (prop::bool::weighted(0.3), prop::bool::weighted(0.3))
            .prop_map(|(transient, ticket)| Op::Push { transient, ticket: ticket && !transient }),
        4 => (0..300_usize, prop_oneof![Just(0), Just(100), Just(10_000)])
            .prop_map(|(bytes_max, room_bytes)| Op::Drain { bytes_max, room_bytes }),
        4 => (0..6_usize, 1..4_usize).prop_map(|(frames, every)| Op::Arrive { frames, every }),
        2 => (0..4_usize).prop_map(|done| Op::Acknowledge { done }),
        1 => prop::bool::weighted(0.7).prop_map(|resumed| Op::Cut { resumed }),
    ]
}

fn event(number: u64, transient: bool, ticket: bool) -> Sent {
    let class = if transient { DeliveryClass::Transient } else { DeliveryClass::Reliable };
    let event = wire::Event {
        target: Some(wire::event::Target::Topic("t".to_owned())),
        lane_seq: number,
        class: class.into(),
        ..Default::default()
    };
    let ticket = ticket.then_some(Ticket { worker: 0, number });
    Sent::new(&event, Arrival { at_us: 0, resent: false, ticket })
}

struct Run {
    outbox: Outbox,
    receiver: Receiver,
    pushed: BTreeSet<u64>,
    pushed_transient: u64,
    tickets: BTreeSet<u64>,
    /// Tickets that were settled.
    processed: BTreeSet<u64>,
    /// Whether all who came back said what they had. Others are shown again what they were shown before.
    always_resumed: bool,
}

impl Run {
    fn drain(&mut self, bytes_max: usize, room_bytes: usize) {
        let mut out = Chunks::default();
        let mut datagrams = Datagrams { datagram_bytes_max: 1_000, room_bytes, ready: Vec::new() };
        let _ = self.outbox.drain(&mut out, bytes_max, &mut datagrams, 0, |_, _| {});
        if room_bytes == 0 {
            self.outbox.explain_datagrams(&mut out);
        }
        self.receiver.datagrams.extend(datagrams.ready);
        let mut cutter = FrameCutter::new(4_096);
        cutter.push(written(out).freeze());
        while let Some(frame) = cutter.next_frame().unwrap() {
            self.receiver.under_way.push_back(decode_server_frame(frame).unwrap());
        }
    }

    fn acknowledge(&mut self, done: usize) -> Result<(), TestCaseError> {
        let done: Vec<u64> = self.receiver.to_process.keys().copied().take(done).collect();
        let settled = &mut self.processed;
        let mut twice = false;
        self.outbox
            .acknowledge(self.receiver.through, &[(Outcome::Processed, &done)], |ticket, outcome| {
                twice |= outcome != Outcome::Processed || !settled.insert(ticket.number);
            })
            .unwrap();
        prop_assert!(!twice, "each ticket is settled once");
        for seq in done {
            self.receiver.to_process.remove(&seq);
        }
        Ok(())
    }

    fn cut(&mut self, resumed: bool) {
        let point = if resumed { self.receiver.point() } else { ResumePoint::default() };
        self.always_resumed &= resumed;
        if !resumed {
            self.receiver.may_be_late_through = self.pushed.last().copied().unwrap_or(0);
        }
        let left = self.outbox.bequeath(&point);
        assert_eq!((self.outbox.len(), self.outbox.held_bytes()), (0, 0), "nothing is held twice");
        let mut heir = Outbox::new(LIMITS, true);
        let succession = if resumed { Succession::Resumed } else { Succession::Anew };
        heir.inherit(left, succession, u32::MAX, |_| panic!("nothing is given up"));
        self.outbox = heir;
        self.receiver.begin_session();
    }
}

proptest! {
    #[test]
    fn whoever_comes_back_finds_everything(ops in prop::collection::vec(any_op(), 0..150)) {
        let mut run = Run {
            outbox: Outbox::new(LIMITS, true),
            receiver: Receiver::default(),
            pushed: BTreeSet::new(),
            pushed_transient: 0,
            tickets: BTreeSet::new(),
            processed: BTreeSet::new(),
            always_resumed: true,
        };
        for (number, op) in (1..).zip(ops) {
            match op {
                Op::Push { transient, ticket } => {
                    prop_assert_eq!(run.outbox.push(&event(number, transient, ticket).outbound()), Pushed::Queued);
                    if transient { run.pushed_transient += 1 } else { run.pushed.insert(number); }
                    if ticket { run.tickets.insert(number); }
                }
                Op::Drain { bytes_max, room_bytes } => run.drain(bytes_max, room_bytes),
                Op::Arrive { frames, every } => run.receiver.hear(frames, every),
                Op::Acknowledge { done } => run.acknowledge(done)?,
                Op::Cut { resumed } => run.cut(resumed),
            }
        }
        // The network heals: everything is written, arrives and is processed.
        run.drain(usize::MAX, 0);
        run.receiver.hear(usize::MAX, 1);
        run.acknowledge(usize::MAX)?;
        prop_assert!(run.outbox.is_empty());
        prop_assert_eq!((run.outbox.kept(), run.outbox.held_bytes()), (0, 0));
        prop_assert_eq!(&run.receiver.reliable, &run.pushed);
        prop_assert_eq!(&run.processed, &run.tickets);
        run.receiver.begin_session();
        let came = run.receiver.transient.len() as u64;
        let lost = run.pushed_transient - came;
        prop_assert!(run.receiver.missing >= lost, "{} of {} lost ones are shown", run.receiver.missing, lost);
        prop_assert!(!run.always_resumed || run.receiver.missing == lost, "and no others");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Too small for what they are given: see there.
    #[test]
    fn small_outboxes_keep_their_promises(operations in prop::collection::vec(any::<u8>(), 0..400)) {
        small::play(&operations);
    }
}

#[test]
fn what_fuzzing_once_reached_stays_right() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/outboxes");
    let mut played = 0;
    for input in std::fs::read_dir(corpus).unwrap() {
        small::play(&std::fs::read(input.unwrap().path()).unwrap());
        played += 1;
    }
    assert!(played > 10, "{played} inputs");
}

/// What is missing of an earlier session and of this one lies side by side: it is told in two gaps, and once more whole
/// to the session after that.
#[test]
fn a_gap_that_spans_two_sessions_has_both_reasons() {
    let limits = OutboxLimits { deliveries_max: 2, ..LIMITS };
    let gaps = |outbox: &mut Outbox| {
        let mut out = Chunks::default();
        let drained = outbox.drain(&mut out, usize::MAX, &mut Datagrams::default(), 0, |_, _| {});
        let mut cutter = FrameCutter::new(4_096);
        cutter.push(written(out).freeze());
        let mut gaps = Vec::new();
        while let Some(frame) = cutter.next_frame().unwrap() {
            if let wire::server_frame::Frame::Gap(gap) = decode_server_frame(frame).unwrap() {
                gaps.push((gap.from_seq, gap.to_seq, gap.reason()));
            }
        }
        assert_eq!(drained.gaps, gaps.len() as u64);
        gaps
    };
    let succeed = |outbox: &mut Outbox| {
        let mut heir = Outbox::new(limits, true);
        heir.inherit(outbox.bequeath(&ResumePoint::default()), Succession::Resumed, 3, |_| {
            panic!("nothing is given up")
        });
        heir
    };
    let mut first = Outbox::new(limits, true);
    for number in 1..=2 {
        assert_eq!(first.push(&event(number, true, false).outbound()), Pushed::Queued);
    }
    assert_eq!(gaps(&mut first), []);

    let mut second = succeed(&mut first);
    for number in 3..=5 {
        assert_eq!(second.push(&event(number, number == 3, false).outbound()), Pushed::Queued);
    }
    assert_eq!(gaps(&mut second), [(1, 2, GapReason::Evicted), (3, 3, GapReason::SlowConsumer)]);
    assert_eq!(second.kept(), 2);

    // What the heir dropped before it inherits is missing behind what it inherits, at the end as well as in between.
    let mut third = Outbox::new(limits, true);
    for (number, pushed) in [(6, Pushed::Queued), (7, Pushed::Queued), (8, Pushed::Dropped)] {
        assert_eq!(third.push(&event(number, number == 8, false).outbound()), pushed);
    }
    third.inherit(second.bequeath(&ResumePoint::default()), Succession::Resumed, 3, |_| panic!("nothing is given up"));
    assert_eq!((third.len(), gaps(&mut third)), (4, vec![(1, 3, GapReason::Evicted), (8, 8, GapReason::SlowConsumer)]));
}

#[test]
fn what_several_runs_are_lost_with_is_given_up() {
    let mut outbox = Outbox::new(LIMITS, true);
    assert_eq!(outbox.push(&event(1, false, true).outbound()), Pushed::Queued);
    let mut given_up = Vec::new();
    for run in 1..=3 {
        // The second, which nobody was lost with, is written only to the last.
        let mut out = Chunks::default();
        let _ = outbox.drain(&mut out, 1, &mut Datagrams::default(), 0, |_, _| {});
        if run == 3 {
            assert_eq!(outbox.push(&event(2, false, true).outbound()), Pushed::Queued);
        }
        let left = outbox.bequeath(&ResumePoint::default());
        outbox = Outbox::new(LIMITS, true);
        outbox.inherit(left, Succession::OtherRun, 3, |ticket| given_up.push(ticket.unwrap().number));
    }
    assert_eq!(given_up, [1]);
    assert_eq!(outbox.len(), 1);
}

/// Where not one process may be lost with a delivery, one that nobody was lost with is delivered all the same.
#[test]
fn what_nobody_was_lost_with_is_not_given_up() {
    for (succession, left) in [(Succession::Resumed, 1), (Succession::Anew, 1), (Succession::OtherRun, 0)] {
        let mut outbox = Outbox::new(LIMITS, true);
        assert_eq!(outbox.push(&event(1, false, false).outbound()), Pushed::Queued);
        let _ = outbox.drain(&mut Chunks::default(), 1, &mut Datagrams::default(), 0, |_, _| {});
        let mut heir = Outbox::new(LIMITS, true);
        let mut given_up = 0;
        heir.inherit(outbox.bequeath(&ResumePoint::default()), succession, 0, |_| given_up += 1);
        assert_eq!((heir.len(), given_up), (left, 1 - left));
        assert!(!heir.is_empty(), "what is given up is shown to be missing");
    }
}
