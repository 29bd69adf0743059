//! Outboxes that inherit from each other, too small for what they are given: whoever comes back finds everything that
//! may not be dropped, in order, or is told what is missing; and nothing is held in the end.
//!
//! Shared by the tests, which play random bytes and the kept corpus, and by the fuzz target `outboxes`.

#[path = "accounts.rs"]
mod accounts;
#[path = "../ring/receiver.rs"]
pub(crate) mod receiver;
#[path = "sent.rs"]
pub(crate) mod sent;

use std::collections::{BTreeMap, BTreeSet};

use accounts::{Accounts, Entry, Shown};
use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use receiver::Receiver;
use sent::{Sent, written};
use zonecast_core::{
    Arrival, Chunks, Datagrams, NeverSent, Outbox, OutboxLimits, Outcome, Pushed, ResumePoint, Succession, Ticket,
};
use zonecast_protocol::DeliveryClass;
use zonecast_protocol::codec::{FrameCutter, decode_server_frame};
use zonecast_protocol::wire::{self, server_frame};

const LIMITS: OutboxLimits =
    OutboxLimits { deliveries_max: 12, bytes_max: 1_500, deliveries_soft: 8, bytes_soft: 1_000 };

/// Less than some events have.
const DATAGRAM_BYTES_MAX: usize = 150;

/// So many runs of the client may be lost with a delivery.
const REDELIVERIES_MAX: u32 = 3;

#[derive(Debug, Arbitrary)]
enum Op {
    Push(Event),
    /// Write so many bytes, with so much room for datagrams.
    Drain {
        bytes_max: u8,
        room_bytes: u8,
    },
    /// So many frames of what was written arrive; and every so manyth datagram.
    Arrive {
        frames: u8,
        #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(1..=3))]
        every: u8,
    },
    /// The client acknowledges what has arrived, and is done with some of what waits for that.
    Acknowledge {
        #[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=3))]
        done: usize,
        rejects: bool,
    },
    /// It acknowledges what was never sent.
    AcknowledgeBeyond(u8),
    /// The link is lost with all that is under way on it, and a new session takes over, to which something was pushed
    /// before.
    Cut {
        end: End,
        #[arbitrary(with = |input: &mut Unstructured| Ok(input.arbitrary_iter()?.take(10).flatten().collect()))]
        before: Vec<Event>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum End {
    /// The client says what it has.
    Resumed,
    /// It is the same process, but does not say so.
    Anew,
    /// It is another process.
    Crashed,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Event {
    class: Class,
    payload_bytes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Class {
    Transient,
    Reliable,
    /// Reliable, and its publisher waits until it is processed.
    Awaited,
    State(#[arbitrary(with = |input: &mut Unstructured| input.int_in_range(0..=2))] u8),
}

impl Event {
    fn outbound(self, number: u64) -> Sent {
        let (class, key) = match self.class {
            Class::Transient => (DeliveryClass::Transient, String::new()),
            Class::Reliable | Class::Awaited => (DeliveryClass::Reliable, String::new()),
            Class::State(key) => (DeliveryClass::State, format!("k{key}")),
        };
        let event = wire::Event {
            target: Some(wire::event::Target::Topic("t".to_owned())),
            lane_seq: number,
            class: class.into(),
            key,
            payload: vec![0; self.payload_bytes.into()].into(),
            ..Default::default()
        };
        let ticket = (self.class == Class::Awaited).then_some(Ticket { worker: 0, number });
        let arrival = Arrival { at_us: number, resent: is_resent(number), ticket };
        Sent::new(&event, arrival)
    }
}

/// Whether its publisher has sent it before.
fn is_resent(number: u64) -> bool {
    number.is_multiple_of(5)
}

/// A broker's side.
struct Run {
    outbox: Outbox,
    accounts: Accounts,
    receiver: Receiver,
    number: u64,
    reliable: BTreeSet<u64>,
    /// The latest value of each key.
    latest: BTreeMap<String, u64>,
    transient: u64,
    tickets: BTreeSet<u64>,
    /// Tickets that were settled, in whatever way.
    settled: BTreeSet<u64>,
    /// Deliveries that too many runs were lost with, without a ticket.
    given_up: u64,
    /// Whether all who came back said what they had. Others are shown again what they were shown before.
    always_resumed: bool,
    overflowed: bool,
}

impl Run {
    fn new() -> Self {
        Self {
            outbox: Outbox::new(LIMITS, true),
            accounts: Accounts::new(LIMITS),
            receiver: Receiver::default(),
            number: 0,
            reliable: BTreeSet::new(),
            latest: BTreeMap::new(),
            transient: 0,
            tickets: BTreeSet::new(),
            settled: BTreeSet::new(),
            given_up: 0,
            always_resumed: true,
            overflowed: false,
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Push(event) => {
                let mut outbox = std::mem::replace(&mut self.outbox, Outbox::new(LIMITS, true));
                let mut accounts = std::mem::replace(&mut self.accounts, Accounts::new(LIMITS));
                self.push(&mut outbox, &mut accounts, event);
                (self.outbox, self.accounts) = (outbox, accounts);
            }
            Op::Drain { bytes_max, room_bytes } => self.drain(bytes_max.into(), room_bytes.into()),
            Op::Arrive { frames, every } => self.receiver.hear(frames.into(), every.into()),
            Op::Acknowledge { done, rejects } => self.acknowledge(done, rejects),
            Op::AcknowledgeBeyond(by) => self.acknowledge_beyond(by.into()),
            Op::Cut { end, before } => self.cut(end, &before),
        }
        self.audit();
    }

    /// The outbox says of itself what the accounts say of it.
    fn audit(&self) {
        let (outbox, accounts) = (&self.outbox, &self.accounts);
        let (kept, kept_bytes) = accounts.kept_totals();
        assert_eq!((outbox.len(), outbox.bytes()), (accounts.waiting.len(), accounts.waiting_bytes()));
        assert_eq!((outbox.kept(), outbox.held_bytes()), (kept, accounts.waiting_bytes() + kept_bytes));
        assert_eq!((outbox.dropped_total(), outbox.has_overflowed()), (accounts.dropped, self.overflowed));
        for scarcity in [0, 1, 10] {
            assert_eq!(outbox.is_over_soft_mark(scarcity), accounts.is_over_soft_mark(scarcity), "{accounts:?}");
        }
        assert!(!outbox.is_empty() || accounts.waiting.is_empty());
    }

    fn push(&mut self, outbox: &mut Outbox, accounts: &mut Accounts, event: Event) {
        self.number += 1;
        let number = self.number;
        let sent = event.outbound(number);
        let event_out = sent.outbound();
        let expected = accounts.push(Entry::new(number, event.class, event_out.bytes().len(), is_resent(number)));
        let pushed = outbox.push(&event_out);
        assert_eq!(pushed, expected, "{event:?} {accounts:?}");
        assert!(!self.overflowed || pushed == Pushed::Overflow, "nothing is queued behind what was lost");
        let (held, held_bytes) = (outbox.len() + outbox.kept(), outbox.held_bytes());
        match pushed {
            Pushed::Queued | Pushed::Replaced => {
                assert!(held <= LIMITS.deliveries_max && held_bytes <= LIMITS.bytes_max, "{held}, {held_bytes} bytes");
                assert!(pushed == Pushed::Queued || matches!(event.class, Class::State(_)));
            }
            Pushed::Dropped => assert!(event.class == Class::Transient),
            Pushed::Overflow => {
                self.overflowed = true;
                return;
            }
        }
        match event.class {
            Class::Transient => self.transient += 1,
            Class::Reliable => drop(self.reliable.insert(number)),
            Class::Awaited => drop((self.reliable.insert(number), self.tickets.insert(number))),
            Class::State(key) => drop(self.latest.insert(format!("k{key}"), number)),
        }
    }

    fn drain(&mut self, bytes_max: usize, room_bytes: usize) {
        let mut out = Chunks::default();
        let mut datagrams = Datagrams { datagram_bytes_max: DATAGRAM_BYTES_MAX, room_bytes, ready: Vec::new() };
        let mut waited = Vec::new();
        let drained = self.outbox.drain(&mut out, bytes_max, &mut datagrams, self.number, |us, count| {
            waited.extend(std::iter::repeat_n(us, count));
        });
        let complete = out.len() < bytes_max;
        assert!(!complete || self.outbox.is_empty(), "what fits is written");
        let unexplained = self.outbox.has_unexplained_datagrams();
        if room_bytes == 0 {
            self.outbox.explain_datagrams(&mut out);
        }
        let sent: usize = datagrams.ready.iter().map(Bytes::len).sum();
        assert_eq!(sent + datagrams.room_bytes, room_bytes);
        let mut shown = Vec::new();
        for datagram in &datagrams.ready {
            let frame = decode_server_frame(datagram.clone()).expect("a datagram holds a frame");
            let server_frame::Frame::Deliver(deliver) = frame else { panic!("and that is a delivery") };
            shown.push(Shown::Delivery(deliver, Some(datagram.len())));
        }
        self.receiver.datagrams.extend(datagrams.ready);
        let mut cutter = FrameCutter::new(4_096);
        let mut written_bytes = 0;
        cutter.push(written(out).freeze());
        let (mut gaps, mut before_last) = (0, [0, 0]);
        while let Some(frame) = cutter.next_frame().expect("what is written is framed") {
            written_bytes += 1 + usize::from(frame.len() > 127) + frame.len();
            let frame = decode_server_frame(frame).expect("and can be read");
            match &frame {
                server_frame::Frame::Gap(gap) => {
                    gaps += 1;
                    shown.push(Shown::Gap(*gap));
                }
                server_frame::Frame::Deliver(deliver) => {
                    before_last = [before_last[1], written_bytes];
                    shown.push(Shown::Delivery(deliver.clone(), None));
                }
                _ => {}
            }
            self.receiver.under_way.push_back(frame);
        }
        shown.sort_by_key(Shown::seq);
        assert!(before_last[0] == 0 || before_last[0] < bytes_max, "enough is enough");
        let taken = self.accounts.drain(shown, room_bytes, DATAGRAM_BYTES_MAX);
        assert_eq!(unexplained, self.accounts.unexplained);
        self.accounts.unexplained &= room_bytes > 0;
        assert_eq!(self.outbox.has_unexplained_datagrams(), self.accounts.unexplained);
        assert_eq!((drained.deliveries, drained.gaps), (taken.len() as u64, gaps));
        assert_eq!(waited, taken.iter().map(|entry| self.number - entry.number).collect::<Vec<_>>());
        for seq in self.receiver.through..self.receiver.through + 40 {
            assert_eq!(self.outbox.has_sent(seq), self.accounts.has_sent(seq));
        }
    }

    fn acknowledge(&mut self, done: usize, rejects: bool) {
        let done: Vec<u64> = self.receiver.to_process.keys().copied().take(done).collect();
        let said = if rejects { Outcome::Rejected } else { Outcome::Processed };
        let settled = &mut self.settled;
        let mut count = 0;
        // Each is named twice, and settled once.
        let named: [(Outcome, &[u64]); 2] = [(said, &done), (Outcome::Lost, &done)];
        let acknowledged = self.outbox.acknowledge(self.receiver.through, &named, |ticket, outcome| {
            assert_eq!(outcome, said);
            assert!(settled.insert(ticket.number), "each ticket is settled once");
            count += 1;
        });
        assert_eq!((acknowledged, count), (Ok(()), done.len()));
        self.accounts.acknowledge(self.receiver.through, &done);
        for seq in done {
            self.receiver.to_process.remove(&seq);
        }
    }

    fn acknowledge_beyond(&mut self, by: u64) {
        let (before, seq) = (self.outbox.kept(), self.receiver.through + by);
        if !self.outbox.has_sent(seq) {
            let refused = self.outbox.acknowledge(self.receiver.through, &[(Outcome::Processed, &[seq])], |_, _| {
                panic!("nothing is settled");
            });
            assert_eq!((refused, self.outbox.kept()), (Err(NeverSent { seq }), before), "and nothing freed");
        }
    }

    fn cut(&mut self, end: End, before: &[Event]) {
        let resumed = end == End::Resumed;
        let point = if resumed { self.receiver.point() } else { ResumePoint::default() };
        self.always_resumed &= resumed;
        if !resumed {
            self.receiver.may_be_late_through = self.number;
        }
        let left = self.outbox.bequeath(&point);
        assert_eq!((self.outbox.len(), self.outbox.held_bytes()), (0, 0), "nothing is held twice");
        self.accounts.acknowledge(point.delivered_through, &[]);
        self.accounts.received_alone(&point.datagrams);
        assert_eq!((left.len(), left.is_empty()), (self.accounts.left(), self.accounts.left() == 0));
        let unsettled: BTreeSet<u64> = self.accounts.unsettled().collect();
        assert_eq!(unsettled, self.tickets.difference(&self.settled).copied().collect());
        assert_eq!(left.tickets().map(|ticket| ticket.number).collect::<BTreeSet<_>>(), unsettled);
        let (mut heir, mut accounts) = (Outbox::new(LIMITS, true), Accounts::new(LIMITS));
        assert_eq!(self.outbox.dropped_total(), self.accounts.dropped, "a count never falls");
        for event in before {
            self.push(&mut heir, &mut accounts, *event);
        }
        let succession = match end {
            End::Resumed => Succession::Resumed,
            End::Anew => Succession::Anew,
            End::Crashed => Succession::OtherRun,
        };
        let former = std::mem::replace(&mut self.accounts, Accounts::new(LIMITS));
        let (accounts, given_up) = former.inherited_by(accounts, succession, REDELIVERIES_MAX);
        let mut told = Vec::new();
        heir.inherit(left, succession, REDELIVERIES_MAX, |ticket| told.push(ticket));
        let ticket =
            |entry: &Entry| (entry.class == Class::Awaited).then_some(Ticket { worker: 0, number: entry.number });
        assert_eq!(told, given_up.iter().map(ticket).collect::<Vec<_>>());
        for ticket in told {
            match ticket {
                Some(ticket) => assert!(self.settled.insert(ticket.number), "each ticket is settled once"),
                None => self.given_up += 1,
            }
        }
        (self.outbox, self.accounts) = (heir, accounts);
        self.overflowed = self.outbox.has_overflowed();
        self.receiver.begin_session();
    }

    /// The network heals: everything is written, arrives and is processed.
    fn end(mut self) {
        self.drain(usize::MAX, 0);
        self.receiver.hear(usize::MAX, 1);
        let rejected_or_given_up = self.settled.clone();
        self.acknowledge(usize::MAX, false);
        assert!(self.outbox.is_empty() && !self.outbox.has_unexplained_datagrams());
        assert_eq!((self.outbox.kept(), self.outbox.held_bytes()), (0, 0));
        assert_eq!(self.settled, self.tickets, "never silence");
        let missing: Vec<_> = self.reliable.difference(&self.receiver.reliable).collect();
        let unexcused = missing.iter().filter(|number| !rejected_or_given_up.contains(number)).count() as u64;
        assert!(unexcused <= self.given_up, "{missing:?} are missing");
        assert!(self.receiver.reliable.is_subset(&self.reliable));
        if self.given_up == 0 {
            assert_eq!(self.receiver.latest, self.latest, "the latest value of each key arrives");
        }
        self.receiver.begin_session();
        let lost = self.transient - self.receiver.transient.len() as u64;
        assert!(self.receiver.missing >= lost, "{} of {lost} lost ones are shown", self.receiver.missing);
        assert!(!self.always_resumed || self.receiver.missing == lost, "and no others");
    }
}

/// Reads operations from the bytes and plays them; panics where a promise is broken.
pub(crate) fn play(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let mut run = Run::new();
    while !input.is_empty()
        && !run.overflowed
        && let Ok(op) = Op::arbitrary(&mut input)
    {
        run.step(op);
    }
    // What came before it is delivered all the same, should the session be resumed.
    if run.overflowed {
        run.step(Op::Push(Event { class: Class::Transient, payload_bytes: 0 }));
    }
    run.end();
}
