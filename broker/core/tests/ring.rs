//! Outboxes that inherit from each other, against what a receiver may observe: links are cut at any moment, and whoever
//! comes back must find everything, in order, or be told what is missing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use zonecast_core::{
    Arrival, Datagrams, OutboundEvent, Outbox, OutboxLimits, Outcome, Pushed, ResumePoint, Succession, Ticket,
};
use zonecast_protocol::codec::{FrameCutter, decode_server_frame};
use zonecast_protocol::wire::{self, server_frame};
use zonecast_protocol::{DeliveryClass, EventView};

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

fn event(number: u64, transient: bool, ticket: bool) -> OutboundEvent {
    let class = if transient { DeliveryClass::Transient } else { DeliveryClass::Reliable };
    let event = wire::Event {
        target: Some(wire::event::Target::Topic("t".to_owned())),
        lane_seq: number,
        class: class.into(),
        ..Default::default()
    };
    let bytes = event.encode_to_vec();
    let ticket = ticket.then_some(Ticket { worker: 0, number });
    OutboundEvent::new(&EventView::decode(&bytes).unwrap(), &bytes, Arrival { at_us: 0, resent: false, ticket })
}

/// The client, and what is on its way to it.
#[derive(Default)]
struct Receiver {
    under_way: VecDeque<server_frame::Frame>,
    datagrams: VecDeque<Bytes>,
    /// Of this session: how far the stream was read, what came as datagrams, and what waits to be processed.
    through: u64,
    alone: BTreeSet<u64>,
    to_process: BTreeMap<u64, u64>,
    /// Numbers of this session that a frame said were sent as datagrams.
    explained: BTreeSet<u64>,
    /// Over all sessions: which events arrived, and how many were said to be missing.
    reliable: BTreeSet<u64>,
    last_new_reliable: u64,
    transient: BTreeSet<u64>,
    missing: u64,
    /// Tickets that were settled.
    processed: BTreeSet<u64>,
    /// Up to this number, deliveries may come behind later ones that the client got elsewhere.
    may_be_late_through: u64,
}

impl Receiver {
    fn take(&mut self, frame: server_frame::Frame) -> Result<(), TestCaseError> {
        match frame {
            server_frame::Frame::Gap(gap) => {
                prop_assert_eq!(gap.from_seq, self.through + 1, "gaps are in their place");
                self.missing += gap.to_seq + 1 - gap.from_seq;
                self.through = gap.to_seq;
            }
            server_frame::Frame::Datagrams(sent) => {
                prop_assert_eq!(sent.from_seq, self.through + 1, "and so is what explains datagrams");
                self.explained.extend(sent.from_seq..=sent.to_seq);
                self.through = sent.to_seq;
            }
            server_frame::Frame::Deliver(deliver) => {
                prop_assert_eq!(deliver.seq, self.through + 1, "every jump is explained");
                self.through = deliver.seq;
                self.take_event(&deliver)?;
            }
            other => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn take_event(&mut self, deliver: &wire::Deliver) -> Result<(), TestCaseError> {
        let event = wire::Event::decode(deliver.event.clone()).unwrap();
        let number = event.lane_seq;
        if event.class() == DeliveryClass::Transient {
            prop_assert!(self.transient.insert(number), "at most once");
            return Ok(());
        }
        if deliver.await_processing {
            self.to_process.insert(deliver.seq, number);
        }
        prop_assert!(deliver.resent || number > self.may_be_late_through, "what may come late says so");
        if self.reliable.insert(number) {
            prop_assert!(number > self.last_new_reliable, "in order");
            self.last_new_reliable = number;
        } else {
            prop_assert!(deliver.resent, "what comes twice says so");
        }
        Ok(())
    }

    fn take_datagram(&mut self, datagram: Bytes) -> Result<(), TestCaseError> {
        let server_frame::Frame::Deliver(deliver) = decode_server_frame(datagram).unwrap() else { panic!() };
        self.alone.insert(deliver.seq);
        self.take_event(&deliver)
    }

    /// A new session: what was explained and did not come will not come, as the client itself concludes.
    fn begin_session(&mut self) {
        self.missing += self.explained.difference(&self.alone).count() as u64;
        self.under_way.clear();
        self.datagrams.clear();
        self.through = 0;
        self.alone.clear();
        self.explained.clear();
        self.to_process.clear();
    }

    fn point(&self) -> ResumePoint {
        let datagrams = self.alone.iter().copied().filter(|seq| *seq > self.through).collect();
        ResumePoint { delivered_through: self.through, datagrams }
    }
}

struct Run {
    outbox: Outbox,
    receiver: Receiver,
    pushed: BTreeSet<u64>,
    pushed_transient: u64,
    tickets: BTreeSet<u64>,
    /// Whether all who came back said what they had. Others are shown again what they were shown before.
    always_resumed: bool,
}

impl Run {
    fn drain(&mut self, bytes_max: usize, room_bytes: usize) {
        let mut out = BytesMut::new();
        let mut datagrams = Datagrams { datagram_bytes_max: 1_000, room_bytes, ready: Vec::new() };
        let _ = self.outbox.drain(&mut out, bytes_max, &mut datagrams, 0, |_| {});
        if room_bytes == 0 {
            self.outbox.explain_datagrams(&mut out);
        }
        self.receiver.datagrams.extend(datagrams.ready);
        let mut cutter = FrameCutter::new(4_096);
        cutter.push(out.freeze());
        while let Some(frame) = cutter.next_frame().unwrap() {
            self.receiver.under_way.push_back(decode_server_frame(frame).unwrap());
        }
    }

    fn arrive(&mut self, frames: usize, every: usize) -> Result<(), TestCaseError> {
        for _ in 0..frames {
            let Some(frame) = self.receiver.under_way.pop_front() else { break };
            self.receiver.take(frame)?;
        }
        for at in 0..frames {
            let Some(datagram) = self.receiver.datagrams.pop_front() else { break };
            if at % every == 0 {
                self.receiver.take_datagram(datagram)?;
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, done: usize) -> Result<(), TestCaseError> {
        let done: Vec<u64> = self.receiver.to_process.keys().copied().take(done).collect();
        let settled = &mut self.receiver.processed;
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
            always_resumed: true,
        };
        for (number, op) in (1..).zip(ops) {
            match op {
                Op::Push { transient, ticket } => {
                    prop_assert_eq!(run.outbox.push(event(number, transient, ticket)), Pushed::Queued);
                    if transient { run.pushed_transient += 1 } else { run.pushed.insert(number); }
                    if ticket { run.tickets.insert(number); }
                }
                Op::Drain { bytes_max, room_bytes } => run.drain(bytes_max, room_bytes),
                Op::Arrive { frames, every } => run.arrive(frames, every)?,
                Op::Acknowledge { done } => run.acknowledge(done)?,
                Op::Cut { resumed } => run.cut(resumed),
            }
        }
        // The network heals: everything is written, arrives and is processed.
        run.drain(usize::MAX, 0);
        run.arrive(usize::MAX >> 1, 1)?;
        run.acknowledge(usize::MAX)?;
        prop_assert!(run.outbox.is_empty());
        prop_assert_eq!((run.outbox.kept(), run.outbox.held_bytes()), (0, 0));
        prop_assert_eq!(&run.receiver.reliable, &run.pushed);
        prop_assert_eq!(&run.receiver.processed, &run.tickets);
        run.receiver.begin_session();
        let came = run.receiver.transient.len() as u64;
        let lost = run.pushed_transient - came;
        prop_assert!(run.receiver.missing >= lost, "{} of {} lost ones are shown", run.receiver.missing, lost);
        prop_assert!(!run.always_resumed || run.receiver.missing == lost, "and no others");
    }
}

#[test]
fn what_several_runs_are_lost_with_is_given_up() {
    let mut outbox = Outbox::new(LIMITS, true);
    assert_eq!(outbox.push(event(1, false, true)), Pushed::Queued);
    let mut given_up = Vec::new();
    for run in 1..=3 {
        // The second, which nobody was lost with, is written only to the last.
        let mut out = BytesMut::new();
        let _ = outbox.drain(&mut out, 1, &mut Datagrams::default(), 0, |_| {});
        if run == 3 {
            assert_eq!(outbox.push(event(2, false, true)), Pushed::Queued);
        }
        let left = outbox.bequeath(&ResumePoint::default());
        outbox = Outbox::new(LIMITS, true);
        outbox.inherit(left, Succession::OtherRun, 3, |ticket| given_up.push(ticket.unwrap().number));
    }
    assert_eq!(given_up, [1]);
    assert_eq!(outbox.len(), 1);
}
