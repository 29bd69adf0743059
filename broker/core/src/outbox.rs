//! What waits for one session and what it has not acknowledged, bounded, and what gives way when it is too slow.

mod chunks;
mod drain;
mod heritage;
mod kept;
mod room;
mod run;

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use rustc_hash::FxHashMap;

pub use self::{
    chunks::Chunks,
    drain::{Datagrams, Drained},
    heritage::{LeftDeliveries, ResumePoint, Succession},
};
use self::{kept::Kept, run::Run};
use crate::{
    Arrival, OutboundEvent, OutboxLimits, Outcome, Ticket,
    outbound::{HeldEvent, StateKey},
};

/// So many numbers that were written and not acknowledged are kept for each delivery that may be held.
const NUMBERS_KEPT_PER_DELIVERY: usize = 2;

/// Larger events are not copied for each session while they are routed, but shared until they are written.
const PLAIN_BYTES_MAX: usize = 4 << 10;

/// What became of a pushed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It took the place of an older value of the same key.
    Replaced,
    /// It is transient, there was no room, and nothing older to drop: it will be shown as a gap.
    Dropped,
    /// There is no room for an event that may not be dropped: the session must end (`SLOW_CONSUMER`).
    Overflow,
}

/// An acknowledgement of deliveries that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeverSent {
    /// The number that was acknowledged.
    pub seq: u64,
}

/// One place in the row of what waits.
#[derive(Debug)]
enum Entry {
    /// Deliveries that go out as they lie there.
    Run(Run<BytesMut>),
    /// One that may give way before, or is awaited.
    Slot(Slot),
}

#[derive(Debug)]
struct Slot {
    seq: u64,
    /// `None` once the event was dropped to make room.
    event: Option<HeldEvent>,
    /// Written to an earlier session of the client, or sent twice by its publisher.
    resent: bool,
    /// How many runs of the client were lost with it.
    crashes: u32,
}

/// A session's bounded queue of deliveries, and the ring of those that it has not acknowledged.
///
/// Deliveries are numbered when pushed. Whatever is dropped leaves a jump in the numbers, and [`drain`](Self::drain)
/// explains every jump in its place, by a `Gap` or, for what was sent as datagrams, by `Datagrams`: that is the only way
/// a delivery disappears. What was drained is kept until [`acknowledge`](Self::acknowledge) names it, where the session
/// can be resumed or the publisher waits for it to be processed; and counts against the bounds until then.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    /// Whether what was written is kept until it is received.
    keeps: bool,
    /// Ascending by number; vacant slots are swept out when they are the majority.
    entries: VecDeque<Entry>,
    /// Slots without an event.
    vacant: usize,
    /// Room that the last run needed; the next one will need about as much.
    run_bytes: usize,
    /// Deliveries that wait, and the bytes of their events.
    waiting: usize,
    waiting_bytes: usize,
    next_seq: u64,
    /// The last number that was written, or sent as a datagram, or explained.
    written_through: u64,
    /// Numbers up to this one come from an earlier session.
    inherited_through: u64,
    /// Numbers that were sent as datagrams and are not explained on the stream yet.
    datagrams: Option<(u64, u64)>,
    kept: Kept,
    /// Numbers of the transient events that wait, oldest first.
    transient: VecDeque<u64>,
    transient_bytes: usize,
    /// Where the waiting value of each state key is.
    state: FxHashMap<Arc<StateKey>, u64>,
    dropped_total: u64,
    /// Set by the first event that found no room: after it nothing may be queued, or its loss would go unseen.
    overflowed: bool,
}

impl Outbox {
    /// An empty outbox. With `keeps`, what is written is kept until it is acknowledged as received.
    #[must_use]
    pub fn new(limits: OutboxLimits, keeps: bool) -> Self {
        Self {
            limits,
            keeps,
            entries: VecDeque::new(),
            vacant: 0,
            run_bytes: 0,
            waiting: 0,
            waiting_bytes: 0,
            next_seq: 1,
            written_through: 0,
            inherited_through: 0,
            datagrams: None,
            kept: Kept::default(),
            transient: VecDeque::new(),
            transient_bytes: 0,
            state: FxHashMap::default(),
            dropped_total: 0,
            overflowed: false,
        }
    }

    /// Whether there is nothing to write: no delivery and no gap. Datagrams may be left to be explained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0 && self.written_through + 1 == self.next_seq
    }

    /// Deliveries that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes of the events that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether this number was sent, or is 0.
    #[must_use]
    pub fn has_sent(&self, seq: u64) -> bool {
        seq <= self.written_through
    }

    /// Deliveries that were written and are not acknowledged.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.events()
    }

    /// Bytes of events held in all: those that wait and those that are not acknowledged.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.waiting_bytes + self.kept.bytes()
    }

    /// Whether an event that may not be dropped found no room: the session cannot go on, nor be resumed.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Transient events dropped so far.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// Whether publishers to this session should be held back. Transient events do not count: they give way.
    ///
    /// The marks are halved `scarcity` times: not at all while the broker has memory for all.
    #[must_use]
    pub fn is_over_soft_mark(&self, scarcity: u32) -> bool {
        let (deliveries, bytes) = self.lasting();
        deliveries >= (self.limits.deliveries_soft >> scarcity).max(1)
            || bytes >= (self.limits.bytes_soft >> scarcity).max(1)
    }

    /// Deliveries that may not be dropped, and their bytes: those that wait and those that are not acknowledged.
    fn lasting(&self) -> (usize, usize) {
        let waiting = (self.waiting - self.transient.len(), self.waiting_bytes - self.transient_bytes);
        (waiting.0 + self.kept.events(), waiting.1 + self.kept.bytes())
    }

    /// Queues an event, or says why not. After [`Pushed::Overflow`] nothing is queued any more.
    pub fn push(&mut self, event: &OutboundEvent<'_>) -> Pushed {
        let pushed = if self.overflowed { Pushed::Overflow } else { self.push_if_room(event) };
        self.overflowed = pushed == Pushed::Overflow;
        pushed
    }

    fn push_if_room(&mut self, event: &OutboundEvent<'_>) -> Pushed {
        // Numbers of transient events cost little, and hold nobody back; but a client that reads and never acknowledges
        // would have them kept without an end.
        if self.kept.len() >= NUMBERS_KEPT_PER_DELIVERY * self.limits.deliveries_max {
            return Pushed::Overflow;
        }
        let head = event.head();
        if let Some(seq) = head.state_key().and_then(|key| self.state.get(key)).copied() {
            return self.replace(seq, event.held());
        }
        if !self.make_room(1, event.bytes().len()) {
            if head.is_transient() {
                self.next_seq += 1;
                self.dropped_total += 1;
                return Pushed::Dropped;
            }
            return Pushed::Overflow;
        }
        let Arrival { at_us, resent, .. } = head.arrival();
        if head.is_plain() && event.bytes().len() <= PLAIN_BYTES_MAX {
            self.append_plain(event.bytes(), resent, at_us, 0);
        } else {
            self.append(event.held(), resent, 0);
        }
        Pushed::Queued
    }

    /// Gives an event the next number and its place in the accounts, whether there is room or not.
    fn append(&mut self, event: HeldEvent, resent: bool, crashes: u32) {
        let seq = self.number(event.bytes().len());
        if event.head().is_transient() {
            self.transient.push_back(seq);
            self.transient_bytes += event.bytes().len();
        } else if let Some(key) = event.head().state_key() {
            self.state.insert(Arc::clone(key), seq);
        }
        self.entries.push_back(Entry::Slot(Slot { seq, event: Some(event), resent, crashes }));
    }

    /// As [`append`](Self::append), for an event that is reliable and that nobody waits for.
    fn append_plain(&mut self, event: &[u8], resent: bool, at_us: u64, crashes: u32) {
        let seq = self.number(event.len());
        match self.entries.back_mut() {
            Some(Entry::Run(run)) if run.takes(seq, crashes, event.len()) => run.append(event, resent, at_us),
            _ => {
                // Between others that are no part of a run, runs are short.
                let room_bytes = if matches!(self.entries.back(), Some(Entry::Slot(_))) { 0 } else { self.run_bytes };
                let mut run = Run::new(seq, crashes, event.len(), room_bytes);
                run.append(event, resent, at_us);
                self.entries.push_back(Entry::Run(run));
            }
        }
    }

    /// The next number, for an event of so many bytes that waits from now on.
    fn number(&mut self, bytes: usize) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting += 1;
        self.waiting_bytes += bytes;
        seq
    }

    /// Frees what the session has acknowledged: all up to `through_seq` as received, and what it is done with.
    /// `outcome` is told of each ticket that is thereby settled.
    ///
    /// # Errors
    /// A number was never sent. Nothing is freed then.
    pub fn acknowledge(
        &mut self,
        through_seq: u64,
        done: &[(Outcome, &[u64])],
        mut outcome: impl FnMut(Ticket, Outcome),
    ) -> Result<(), NeverSent> {
        let greatest = done.iter().flat_map(|(_, seqs)| seqs.iter()).copied().fold(through_seq, u64::max);
        if !self.has_sent(greatest) {
            return Err(NeverSent { seq: greatest });
        }
        self.kept.received(through_seq);
        for (what, seqs) in done {
            for seq in *seqs {
                if let Some(ticket) = self.kept.settle(*seq).and_then(|event| event.head().ticket()) {
                    outcome(ticket, *what);
                }
            }
        }
        Ok(())
    }

    /// Takes a departing event out of the accounts.
    fn forget(&mut self, seq: u64, event: &HeldEvent) {
        self.waiting -= 1;
        self.waiting_bytes -= event.bytes().len();
        if let Some(key) = event.head().state_key()
            && self.state.get(key) == Some(&seq)
        {
            self.state.remove(key);
        }
        if event.head().is_transient() {
            // Departures are in order, so the oldest number noted is this one.
            self.transient.pop_front();
            self.transient_bytes -= event.bytes().len();
        }
    }
}
