//! What an outbox holds, in the plainest code: lists, looked through from end to end.

use zonecast_core::{OutboxLimits, Pushed, Succession};
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
    /// Its number in the session.
    seq: u64,
    crashes: u32,
}

/// What was written and not acknowledged.
#[derive(Debug)]
struct Written {
    /// Of a gap the last.
    seq: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Event(Entry),
    /// A transient event, which is not written again.
    Transient,
    /// So many that are missing.
    Gap(u64),
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
        Self { number, class, bytes, resent, seq: 0, crashes: 0 }
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
    next_seq: u64,
    /// Numbers up to this one come from an earlier session.
    inherited_through: u64,
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
            next_seq: 1,
            inherited_through: 0,
            written_through: 0,
            unexplained: false,
        }
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|entry| entry.bytes).sum()
    }

    fn kept(&self) -> impl Iterator<Item = &Entry> {
        self.written.iter().filter_map(|written| match &written.what {
            What::Event(entry) => Some(entry),
            What::Transient | What::Gap(_) => None,
        })
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

    pub(crate) fn is_over_soft_mark(&self, halved: u32) -> bool {
        let (deliveries, bytes) = self.lasting();
        let mark = |soft: usize| usize::max(soft / 2_usize.pow(halved), 1);
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
            *place = Entry { seq: place.seq, crashes: place.crashes, ..entry };
            return Pushed::Replaced;
        }
        if !self.make_room(1, entry.bytes) {
            if !entry.is_transient() {
                return Pushed::Overflow;
            }
            self.dropped += 1;
            self.next_seq += 1;
            return Pushed::Dropped;
        }
        self.append(entry);
        Pushed::Queued
    }

    fn append(&mut self, entry: Entry) {
        self.waiting.push(Entry { seq: self.next_seq, ..entry });
        self.next_seq += 1;
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
        let mut gap = None;
        for shown in shown {
            let missing_from = self.written_through + 1;
            self.written_through = shown.seq();
            self.unexplained = matches!(shown, Shown::Delivery(_, Some(_)));
            match shown {
                Shown::Gap(new) => {
                    assert_eq!(new.from_seq, missing_from);
                    match new.reason() {
                        GapReason::Evicted => assert!(new.to_seq <= self.inherited_through, "{new:?} {self:?}"),
                        _ => assert!(new.from_seq > self.inherited_through, "{new:?} {self:?}"),
                    }
                    // Two next to each other are one that is kept.
                    if gap.is_some() {
                        self.written.pop();
                    }
                    let from = *gap.get_or_insert(missing_from);
                    self.written.push(Written { seq: new.to_seq, what: What::Gap(new.to_seq + 1 - from) });
                }
                Shown::Delivery(deliver, datagram) => {
                    gap = None;
                    let entry = self.waiting.remove(0);
                    let event: wire::Event = prost::Message::decode(&deliver.event[..]).expect("the publisher's bytes");
                    assert_eq!((event.lane_seq, deliver.event.len()), (entry.number, entry.bytes), "the oldest");
                    let awaited = entry.class == Class::Awaited;
                    assert_eq!((deliver.seq, deliver.resent), (entry.seq, entry.resent), "{entry:?}");
                    assert_eq!(deliver.await_processing, awaited);
                    let flags = DeliverFlags { resent: deliver.resent, await_processing: awaited };
                    let bytes = encode_deliver_datagram(deliver.seq, flags, &deliver.event).len();
                    let fits = entry.is_transient() && bytes <= room_bytes.min(datagram_bytes_max);
                    assert_eq!(datagram, fits.then_some(bytes), "a datagram where there is room");
                    room_bytes -= datagram.unwrap_or(0);
                    let what = if entry.is_transient() { What::Transient } else { What::Event(entry.clone()) };
                    self.written.push(Written { seq: deliver.seq, what });
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
        self.written.retain(|Written { seq, what }| match what {
            What::Event(entry) if entry.class == Class::Awaited => !done.contains(seq),
            _ => *seq > through,
        });
    }

    /// These transient events arrived although nothing is known of what was written before.
    pub(crate) fn received_alone(&mut self, seqs: &[u64]) {
        self.written.retain(|Written { seq, what }| !matches!(what, What::Transient) || !seqs.contains(seq));
    }

    /// Numbers that wait for the client to say that it is done with them.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = u64> {
        self.kept().chain(&self.waiting).filter(|entry| entry.class == Class::Awaited).map(|entry| entry.number)
    }

    /// The accounts of the outbox that takes over, and those that are given up.
    pub(crate) fn inherited_by(self, heir: Self, succession: Succession, redeliveries_max: u32) -> (Self, Vec<Entry>) {
        let (crashed, may_be_late) = (succession == Succession::OtherRun, succession != Succession::Resumed);
        let mut given_up = Vec::new();
        let mut all = Self { waiting: Vec::new(), next_seq: 1, ..heir };
        for Written { what, .. } in self.written {
            match what {
                What::Event(entry) => {
                    let entry = Entry { resent: true, crashes: entry.crashes + u32::from(crashed), ..entry };
                    all.append_unless(redeliveries_max, entry, &mut given_up);
                }
                What::Transient => all.next_seq += 1,
                What::Gap(missing) => all.next_seq += missing,
            }
        }
        let mut expected = self.written_through + 1;
        for entry in self.waiting {
            all.next_seq += entry.seq - expected;
            expected = entry.seq + 1;
            let entry = Entry { resent: entry.resent || may_be_late, ..entry };
            all.append_unless(redeliveries_max, entry, &mut given_up);
        }
        all.next_seq += self.next_seq - expected;
        all.inherited_through = all.next_seq - 1;
        let inherited = all.inherited_through;
        all.waiting.extend(heir.waiting.into_iter().map(|entry| Entry { seq: inherited + entry.seq, ..entry }));
        all.next_seq = inherited + heir.next_seq;
        (all, given_up)
    }

    /// What so many processes were lost with is missing from now on.
    fn append_unless(&mut self, redeliveries_max: u32, entry: Entry, given_up: &mut Vec<Entry>) {
        if entry.crashes > 0 && entry.crashes >= redeliveries_max {
            self.next_seq += 1;
            given_up.push(entry);
        } else {
            self.append(entry);
        }
    }

    /// How many deliveries are left behind.
    pub(crate) fn left(&self) -> usize {
        self.kept().count() + self.waiting.len()
    }
}
