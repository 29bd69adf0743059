//! What was written to a session and is kept until the session has said that it has it.

use std::collections::{BTreeMap, VecDeque};

use crate::OutboundEvent;

/// One delivery that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) seq: u64,
    /// `None` for one that is not sent again: its number alone is kept, so that its loss can be shown.
    pub(super) event: Option<OutboundEvent>,
    /// How many runs of the client were lost with it.
    pub(super) crashes: u32,
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

    /// Whether everything was received. What is received and not processed does not count.
    pub(super) fn is_received(&self) -> bool {
        self.unreceived.is_empty()
    }

    /// Keeps a delivery, which must have a greater number than all before.
    pub(super) fn keep(&mut self, written: Written) {
        if let Some(event) = &written.event {
            self.events += 1;
            self.bytes += event.bytes().len();
        }
        match &written.event {
            Some(event) if event.arrival().ticket.is_some() => {
                self.unprocessed.insert(written.seq, written);
            }
            _ => self.unreceived.push_back(written),
        }
    }

    /// Everything up to this number was received.
    pub(super) fn received(&mut self, through_seq: u64) {
        while self.unreceived.front().is_some_and(|written| written.seq <= through_seq) {
            if let Some(written) = self.unreceived.pop_front() {
                self.release(&written);
            }
        }
    }

    /// These were received although nothing is known of those before.
    pub(super) fn received_alone(&mut self, seqs: &[u64]) {
        let Self { unreceived, .. } = self;
        // Only numbers without an event are sent apart from the stream.
        unreceived.retain(|written| written.event.is_some() || !seqs.contains(&written.seq));
    }

    /// Takes one that the session is done with, if it waits for that.
    pub(super) fn settle(&mut self, seq: u64) -> Option<OutboundEvent> {
        let written = self.unprocessed.remove(&seq)?;
        self.release(&written);
        written.event
    }

    fn release(&mut self, written: &Written) {
        if let Some(event) = &written.event {
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
