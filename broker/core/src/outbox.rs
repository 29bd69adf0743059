//! What waits for one session, bounded, and what gives way when it is too slow.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use zonecast_protocol::{
    DeliveryClass, EventView,
    codec::{DeliverFlags, encode_deliver, encode_gap},
    wire::GapReason,
};

use crate::OutboxLimits;

/// An event on its way to sessions: the publisher's bytes and what the outbox must know of them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OutboundEvent {
    /// The encoded event, shared by all its deliveries.
    pub bytes: Bytes,
    /// When the broker received it, microseconds on the broker's own clock.
    pub received_at_us: u64,
    /// What is promised.
    pub class: DeliveryClass,
    /// For state events: whose value this is.
    state_key: Option<Arc<StateKey>>,
}

/// Whose latest value a state event is: publisher and key.
type StateKey = (u64, Box<str>);

impl OutboundEvent {
    /// Takes an event out of the buffer it arrived in.
    ///
    /// The bytes are copied, once per event, so that a waiting event keeps no receive buffer of up to 64 KiB alive.
    #[must_use]
    pub fn new(view: &EventView<'_>, bytes: &[u8], received_at_us: u64) -> Self {
        let state_key = (view.class == DeliveryClass::State).then(|| Arc::new((view.source, view.key.into())));
        Self { bytes: Bytes::copy_from_slice(bytes), received_at_us, class: view.class, state_key }
    }
}

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

/// What one [`Outbox::drain`] took out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Deliveries written.
    pub deliveries: u64,
    /// Gaps written.
    pub gaps: u64,
}

#[derive(Debug)]
struct Slot {
    seq: u64,
    /// `None` once the event was dropped to make room.
    event: Option<OutboundEvent>,
}

/// A session's bounded queue of deliveries.
///
/// Deliveries are numbered when pushed. Whatever is dropped leaves a jump in the numbers, and [`drain`](Self::drain)
/// announces every jump by a `Gap` in its place: that is the only way a delivery disappears.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    /// Ascending by `seq`; dropped slots are swept out when they are the majority.
    slots: VecDeque<Slot>,
    /// Slots with an event.
    waiting: usize,
    waiting_bytes: usize,
    next_seq: u64,
    written_through: u64,
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
    /// An empty outbox.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            slots: VecDeque::new(),
            waiting: 0,
            waiting_bytes: 0,
            next_seq: 1,
            written_through: 0,
            transient: VecDeque::new(),
            transient_bytes: 0,
            state: FxHashMap::default(),
            dropped_total: 0,
            overflowed: false,
        }
    }

    /// Whether there is nothing to write: no delivery and no gap.
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

    /// Transient events dropped so far.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// Whether publishers to this session should be held back. Transient events do not count: they give way.
    #[must_use]
    pub fn is_over_soft_mark(&self) -> bool {
        let (deliveries, bytes) = self.lasting();
        deliveries >= self.limits.deliveries_soft || bytes >= self.limits.bytes_soft
    }

    /// Deliveries that wait and may not be dropped, and their bytes.
    fn lasting(&self) -> (usize, usize) {
        (self.waiting - self.transient.len(), self.waiting_bytes - self.transient_bytes)
    }

    /// Queues an event, or says why not. After [`Pushed::Overflow`] nothing is queued any more.
    pub fn push(&mut self, event: OutboundEvent) -> Pushed {
        let pushed = if self.overflowed { Pushed::Overflow } else { self.push_if_room(event) };
        self.overflowed = pushed == Pushed::Overflow;
        pushed
    }

    fn push_if_room(&mut self, event: OutboundEvent) -> Pushed {
        if let Some(seq) = event.state_key.as_ref().and_then(|key| self.state.get(key)).copied() {
            return self.replace(seq, event);
        }
        if !self.make_room(1, event.bytes.len()) {
            if event.class == DeliveryClass::Transient {
                self.next_seq += 1;
                self.dropped_total += 1;
                return Pushed::Dropped;
            }
            return Pushed::Overflow;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting += 1;
        self.waiting_bytes += event.bytes.len();
        match (event.class, &event.state_key) {
            (DeliveryClass::Transient, _) => {
                self.transient.push_back(seq);
                self.transient_bytes += event.bytes.len();
            }
            (_, Some(key)) => {
                self.state.insert(Arc::clone(key), seq);
            }
            _ => {}
        }
        self.slots.push_back(Slot { seq, event: Some(event) });
        Pushed::Queued
    }

    /// Encodes what waits, oldest first, until `out` holds at least `bytes_max` bytes or nothing is left.
    ///
    /// `waited` is told for each delivery how many microseconds it spent here, by the clock that `now_us` is read from.
    pub fn drain(&mut self, out: &mut BytesMut, bytes_max: usize, now_us: u64, mut waited: impl FnMut(u64)) -> Drained {
        let mut drained = Drained::default();
        while out.len() < bytes_max {
            let Some(Slot { seq, event }) = self.slots.pop_front() else {
                drained.gaps += self.announce_gap_before(self.next_seq, out);
                break;
            };
            let Some(event) = event else { continue };
            drained.gaps += self.announce_gap_before(seq, out);
            encode_deliver(seq, DeliverFlags::default(), &event.bytes, out);
            self.written_through = seq;
            self.forget(&event);
            waited(now_us.saturating_sub(event.received_at_us));
            drained.deliveries += 1;
        }
        drained
    }

    fn announce_gap_before(&mut self, seq: u64, out: &mut BytesMut) -> u64 {
        if seq == self.written_through + 1 {
            return 0;
        }
        encode_gap(self.written_through + 1, seq - 1, GapReason::SlowConsumer, out);
        self.written_through = seq - 1;
        1
    }

    /// Takes a departing event out of the accounts.
    fn forget(&mut self, event: &OutboundEvent) {
        self.waiting -= 1;
        self.waiting_bytes -= event.bytes.len();
        if let Some(key) = &event.state_key {
            self.state.remove(key);
        }
        if event.class == DeliveryClass::Transient {
            // Departures are in order, so the oldest number noted is this one.
            self.transient.pop_front();
            self.transient_bytes -= event.bytes.len();
        }
    }

    fn slot_of(&self, seq: u64) -> Option<usize> {
        let at = self.slots.partition_point(|slot| slot.seq < seq);
        self.slots.get(at).is_some_and(|slot| slot.seq == seq).then_some(at)
    }

    fn replace(&mut self, seq: u64, event: OutboundEvent) -> Pushed {
        let old_bytes = |outbox: &Self, at: usize| outbox.slots[at].event.as_ref().map_or(0, |old| old.bytes.len());
        let grows_by = self.slot_of(seq).map_or(0, |at| event.bytes.len().saturating_sub(old_bytes(self, at)));
        if !self.make_room(0, grows_by) {
            return Pushed::Overflow;
        }
        // Looked up again: making room may have moved the slots.
        if let Some(at) = self.slot_of(seq) {
            self.waiting_bytes += event.bytes.len();
            self.waiting_bytes -= old_bytes(self, at);
            self.slots[at].event = Some(event);
        }
        Pushed::Replaced
    }

    /// Drops the oldest transient events until so many more deliveries and bytes fit; none when that would not do.
    fn make_room(&mut self, deliveries: usize, bytes: usize) -> bool {
        let (deliveries_max, bytes_max) = (self.limits.deliveries_max, self.limits.bytes_max);
        let (lasting, lasting_bytes) = self.lasting();
        if lasting + deliveries > deliveries_max || lasting_bytes + bytes > bytes_max {
            return false;
        }
        while self.waiting + deliveries > deliveries_max || self.waiting_bytes + bytes > bytes_max {
            if !self.drop_oldest_transient() {
                return false;
            }
        }
        true
    }

    fn drop_oldest_transient(&mut self) -> bool {
        let Some(at) = self.transient.front().and_then(|&seq| self.slot_of(seq)) else { return false };
        let Some(event) = self.slots[at].event.take() else { return false };
        self.forget(&event);
        self.dropped_total += 1;
        if self.slots.len() > 2 * self.waiting + 64 {
            self.slots.retain(|slot| slot.event.is_some());
        }
        true
    }
}
