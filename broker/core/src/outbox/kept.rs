//! What was written to a session and is kept until the session has said that it has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::OutboundEvent;

/// One place in the row of deliveries that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Its number; the last one of a gap.
    pub(super) seq: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// To be sent again if need be; so many runs of the client were lost with it.
    Delivery(OutboundEvent, u32),
    /// A transient event, which is not sent again: its number is kept, so that its loss can be shown.
    Transient,
    /// A gap of so many numbers, to be shown again if need be.
    Gap(u64),
}

/// Deliveries that were written and not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Freed when they are received; ascending.
    unreceived: VecDeque<Written>,
    /// Freed when they are processed.
    unprocessed: BTreeMap<u64, Written>,
    /// Events among both, and their bytes.
    events: usize,
    bytes: usize,
}

impl Kept {
    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything that is kept, numbers without an event among it.
    pub(super) fn len(&self) -> usize {
        self.unreceived.len() + self.unprocessed.len()
    }

    /// Keeps a delivery, which must have a greater number than all before.
    pub(super) fn keep(&mut self, written: Written) {
        if let What::Delivery(event, _) = &written.what {
            self.events += 1;
            self.bytes += event.bytes().len();
            if event.arrival().ticket.is_some() {
                self.unprocessed.insert(written.seq, written);
                return;
            }
        }
        self.unreceived.push_back(written);
    }

    /// Everything up to this number was received.
    pub(super) fn received(&mut self, through_seq: u64) {
        while self.unreceived.front().is_some_and(|written| written.seq <= through_seq) {
            if let Some(written) = self.unreceived.pop_front() {
                self.release(&written);
            }
        }
    }

    /// These transient events were received although nothing is known of what was written before.
    pub(super) fn received_alone(&mut self, seqs: &[u64]) {
        let seqs: BTreeSet<u64> = seqs.iter().copied().collect();
        self.unreceived.retain(|Written { seq, what }| !matches!(what, What::Transient) || !seqs.contains(seq));
    }

    /// Takes one that the session is done with, if it waits for that.
    pub(super) fn settle(&mut self, seq: u64) -> Option<OutboundEvent> {
        let written = self.unprocessed.remove(&seq)?;
        self.release(&written);
        if let What::Delivery(event, _) = written.what { Some(event) } else { None }
    }

    fn release(&mut self, written: &Written) {
        if let What::Delivery(event, _) = &written.what {
            self.events -= 1;
            self.bytes -= event.bytes().len();
        }
    }

    /// All that is kept, ascending; nothing is kept any more.
    pub(super) fn take_all(&mut self) -> Vec<Written> {
        let Self { unreceived, unprocessed, .. } = std::mem::take(self);
        let mut all: Vec<Written> = unreceived.into_iter().chain(unprocessed.into_values()).collect();
        all.sort_unstable_by_key(|written| written.seq);
        all
    }
}
