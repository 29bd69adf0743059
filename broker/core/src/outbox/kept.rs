//! What was written to a session and is kept until the session has said that it has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::run::Run;
use crate::outbound::HeldEvent;

/// One place in the row of deliveries that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Its number; the first one of a run, the last one of a gap.
    pub(super) seq: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Deliveries to be sent again if need be.
    Run(Run<Bytes>),
    /// To be sent again if need be; so many runs of the client were lost with it.
    Delivery(HeldEvent, u32),
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
    /// Places in both that hold no event.
    bare: usize,
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
        self.events + self.bare
    }

    /// Keeps a delivery, which must have a greater number than all before.
    pub(super) fn keep(&mut self, written: Written) {
        match &written.what {
            What::Run(run) => {
                self.events += run.deliveries;
                self.bytes += run.event_bytes;
            }
            What::Delivery(event, _) => {
                self.events += 1;
                self.bytes += event.bytes().len();
                if event.head().ticket().is_some() {
                    self.unprocessed.insert(written.seq, written);
                    return;
                }
            }
            What::Transient | What::Gap(_) => self.bare += 1,
        }
        self.unreceived.push_back(written);
    }

    /// Everything up to this number was received.
    pub(super) fn received(&mut self, through_seq: u64) {
        while let Some(Written { seq, what }) = self.unreceived.front_mut() {
            if *seq > through_seq {
                return;
            }
            if let What::Run(run) = what
                && run.next_seq() > through_seq + 1
            {
                let released = run.release_through(through_seq);
                *seq = run.first_seq;
                self.events -= released.deliveries;
                self.bytes -= released.event_bytes;
                return;
            }
            if let Some(written) = self.unreceived.pop_front() {
                self.release(&written);
            }
        }
    }

    /// These transient events were received although nothing is known of what was written before.
    pub(super) fn received_alone(&mut self, seqs: &[u64]) {
        let seqs: BTreeSet<u64> = seqs.iter().copied().collect();
        let before = self.unreceived.len();
        self.unreceived.retain(|Written { seq, what }| !matches!(what, What::Transient) || !seqs.contains(seq));
        self.bare -= before - self.unreceived.len();
    }

    /// Takes one that the session is done with, if it waits for that.
    pub(super) fn settle(&mut self, seq: u64) -> Option<HeldEvent> {
        let written = self.unprocessed.remove(&seq)?;
        self.release(&written);
        if let What::Delivery(event, _) = written.what { Some(event) } else { None }
    }

    fn release(&mut self, written: &Written) {
        match &written.what {
            What::Run(run) => {
                self.events -= run.deliveries;
                self.bytes -= run.event_bytes;
            }
            What::Delivery(event, _) => {
                self.events -= 1;
                self.bytes -= event.bytes().len();
            }
            What::Transient | What::Gap(_) => self.bare -= 1,
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
