//! What an outbox holds, in the plainest code: lists, looked through from end to end.

use zonecast_core::{OutboxLimits, Pushed};
use zonecast_protocol::codec::{DeliverFlags, encode_deliver_datagram};
use zonecast_protocol::wire::{self, GapReason};

use super::Class;

/// So many numbers may be written and unacknowledged.
const NUMBERS_MAX_PER_DELIVERY: usize = 2;

/// An event that waits, or was written and may have to be written again.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) class: Class,
    pub(crate) bytes: usize,
    pub(crate) resent: bool,
    crashes: u32,
    /// It came from an earlier session.
    inherited: bool,
}

/// A number that was written and not acknowledged; with its event, if that would be sent again.
#[derive(Debug)]
struct Written {
    seq: u64,
    entry: Option<Entry>,
}

/// What one drain took out: a delivery, its size if it went as a datagram, or a gap up to a number.
pub(crate) enum Shown {
    Delivery(wire::Deliver, Option<usize>),
    Gap(wire::Gap),
}

impl Shown {
    pub(crate) fn seq(&self) -> u64 {
        match self {
            Self::Delivery(deliver, _) => deliver.seq,
            Self::Gap(gap) => gap.to_seq,
        }
    }
}

impl Entry {
    pub(crate) fn new(number: u64, class: Class, bytes: usize, resent: bool) -> Self {
        Self { number, class, bytes, resent, crashes: 0, inherited: false }
    }

    fn is_transient(&self) -> bool {
        self.class == Class::Transient
    }
}

#[derive(Debug)]
pub(crate) struct Accounts {
    limits: OutboxLimits,
    pub(crate) waiting: Vec<Entry>,
    written: Vec<Written>,
    pub(crate) dropped: u64,
    overflowed: bool,
    /// An event that is no heritage was written, so that no gap from now on is of an earlier session.
    own_shown: bool,
    has_heritage: bool,
    written_through: u64,
    /// The last that was taken out went as a datagram, and no frame on the stream has said so.
    pub(crate) unexplained: bool,
}

impl Accounts {
    pub(crate) fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            waiting: Vec::new(),
            written: Vec::new(),
            dropped: 0,
            overflowed: false,
            own_shown: false,
            has_heritage: false,
            written_through: 0,
            unexplained: false,
        }
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|entry| entry.bytes).sum()
    }

    fn kept(&self) -> impl Iterator<Item = &Entry> {
        self.written.iter().filter_map(|written| written.entry.as_ref())
    }

    /// Events that were written and may have to be written again, and their bytes.
    pub(crate) fn kept_totals(&self) -> (usize, usize) {
        (self.kept().count(), self.kept().map(|entry| entry.bytes).sum())
    }

    /// As [`kept_totals`](Self::kept_totals), and what waits and may not be dropped.
    fn lasting(&self) -> (usize, usize) {
        let lasting = || self.waiting.iter().filter(|entry| !entry.is_transient()).chain(self.kept());
        (lasting().count(), lasting().map(|entry| entry.bytes).sum())
    }

    pub(crate) fn is_over_soft_mark(&self, scarcity: usize) -> bool {
        let (deliveries, bytes) = self.lasting();
        let mark = |soft: usize| usize::max(soft / scarcity, 1);
        deliveries >= mark(self.limits.deliveries_soft) || bytes >= mark(self.limits.bytes_soft)
    }

    /// What must become of an event.
    pub(crate) fn push(&mut self, entry: Entry) -> Pushed {
        let pushed = self.push_unless_overflowed(entry);
        self.overflowed = pushed == Pushed::Overflow;
        pushed
    }

    fn push_unless_overflowed(&mut self, entry: Entry) -> Pushed {
        if self.overflowed || self.written.len() >= NUMBERS_MAX_PER_DELIVERY * self.limits.deliveries_max {
            return Pushed::Overflow;
        }
        // Of several values that were inherited the last one counts.
        let same = |waiting: &Entry| matches!(entry.class, Class::State(_)) && waiting.class == entry.class;
        if let Some(former) = self.waiting.iter().rposition(same) {
            let number = self.waiting[former].number;
            if !self.make_room(0, entry.bytes.saturating_sub(self.waiting[former].bytes)) {
                return Pushed::Overflow;
            }
            let place = self.waiting.iter_mut().find(|waiting| waiting.number == number).expect("no value is dropped");
            *place = Entry { crashes: place.crashes, inherited: place.inherited, ..entry };
            return Pushed::Replaced;
        }
        if !self.make_room(1, entry.bytes) {
            self.dropped += u64::from(entry.is_transient());
            return if entry.is_transient() { Pushed::Dropped } else { Pushed::Overflow };
        }
        self.waiting.push(entry);
        Pushed::Queued
    }

    /// Drops the oldest that may be dropped; none where that would not do.
    fn make_room(&mut self, deliveries: usize, bytes: usize) -> bool {
        let (lasting, lasting_bytes) = self.lasting();
        if lasting + deliveries > self.limits.deliveries_max || lasting_bytes + bytes > self.limits.bytes_max {
            return false;
        }
        loop {
            let (kept, kept_bytes) = self.kept_totals();
            let too_many = self.waiting.len() + kept + deliveries > self.limits.deliveries_max;
            if !too_many && self.waiting_bytes() + kept_bytes + bytes <= self.limits.bytes_max {
                return true;
            }
            let oldest = self.waiting.iter().position(Entry::is_transient).expect("only these are too many");
            self.waiting.remove(oldest);
            self.dropped += 1;
        }
    }

    /// Checks what was taken out against what waits from the front, and takes note of it.
    pub(crate) fn drain(&mut self, shown: Vec<Shown>, mut room_bytes: usize, datagram_bytes_max: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        let mut gap: Option<wire::Gap> = None;
        for shown in shown {
            self.written_through = shown.seq();
            self.unexplained = matches!(shown, Shown::Delivery(_, Some(_)));
            match shown {
                Shown::Gap(new) => {
                    let evicted = new.reason() == GapReason::Evicted;
                    assert!(!evicted || (self.has_heritage && !self.own_shown), "nothing of an earlier session");
                    // Two next to each other are one that is kept.
                    if gap.is_some() {
                        self.written.pop();
                    }
                    self.written.push(Written { seq: new.to_seq, entry: None });
                    gap = Some(new);
                }
                Shown::Delivery(deliver, datagram) => {
                    let entry = self.waiting.remove(0);
                    let event: wire::Event = prost::Message::decode(&deliver.event[..]).expect("the publisher's bytes");
                    assert_eq!((event.lane_seq, deliver.event.len()), (entry.number, entry.bytes), "the oldest");
                    let awaited = entry.class == Class::Awaited;
                    assert_eq!((deliver.resent, deliver.await_processing), (entry.resent, awaited), "{entry:?}");
                    let cause = gap.take().map(|gap| gap.reason());
                    assert!(
                        !entry.inherited || cause != Some(GapReason::SlowConsumer),
                        "it came after what is missing"
                    );
                    self.own_shown |= !entry.inherited;
                    let flags = DeliverFlags { resent: deliver.resent, await_processing: awaited };
                    let bytes = encode_deliver_datagram(deliver.seq, flags, &deliver.event).len();
                    let fits = entry.is_transient() && bytes <= room_bytes.min(datagram_bytes_max);
                    assert_eq!(datagram, fits.then_some(bytes), "a datagram where there is room");
                    room_bytes -= datagram.unwrap_or(0);
                    let kept = (!entry.is_transient()).then(|| entry.clone());
                    self.written.push(Written { seq: deliver.seq, entry: kept });
                    taken.push(entry);
                }
            }
        }
        taken
    }

    pub(crate) fn has_sent(&self, seq: u64) -> bool {
        seq <= self.written_through
    }

    pub(crate) fn acknowledge(&mut self, through: u64, done: &[u64]) {
        self.written.retain(|Written { seq, entry }| {
            let awaited = entry.as_ref().is_some_and(|entry| entry.class == Class::Awaited);
            if awaited { !done.contains(seq) } else { *seq > through }
        });
    }

    /// Numbers that wait for the client to say that it is done with them.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = u64> {
        self.kept().chain(&self.waiting).filter(|entry| entry.class == Class::Awaited).map(|entry| entry.number)
    }

    /// The accounts of the outbox that takes over, and the numbers of those that are given up.
    pub(crate) fn inherited_by(&mut self, heir: Self, crashed: bool, redeliveries_max: u32) -> (Self, Vec<Entry>) {
        let written = std::mem::take(&mut self.written).into_iter().filter_map(|written| written.entry);
        let written = written.map(|entry| Entry { resent: true, crashes: entry.crashes + u32::from(crashed), ..entry });
        let left = written.chain(std::mem::take(&mut self.waiting)).map(|entry| Entry { inherited: true, ..entry });
        let (given_up, mut waiting): (Vec<_>, Vec<_>) =
            left.partition(|entry| entry.crashes > 0 && entry.crashes >= redeliveries_max);
        waiting.extend(heir.waiting);
        (Self { waiting, has_heritage: true, ..heir }, given_up)
    }

    /// How many deliveries are left behind.
    pub(crate) fn left(&self) -> usize {
        self.kept().count() + self.waiting.len()
    }
}
