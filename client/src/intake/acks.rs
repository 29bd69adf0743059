//! What the broker is told of what was received and processed, and when.
//!
//! That something was received only sets memory free at the broker, so it is told lazily, for many at once. For what was
//! processed a publisher waits, so it is told at once.
//!
//! Pure: no runtime, no clock, no lock; the time is an argument.

use std::time::Duration;

use tokio::time::Instant;
use zonecast_protocol::wire;

use super::{Position, Verdict};

/// Told at the latest after so many deliveries,
const DELIVERIES: u64 = 256;
/// so many frames of the control stream,
const CONTROL_FRAMES: u64 = 512;
/// so many bytes of either,
const BYTES: usize = 64 * 1024;
/// or so long after the first.
const DELAY: Duration = Duration::from_millis(10);
/// Most numbers of each kind in one frame.
const NUMBERS_MAX: usize = 8192;

pub(super) struct Acks {
    /// Whether the broker keeps what it is not told to have been received.
    kept: bool,
    position: Position,
    /// What the broker was told last.
    told: Position,
    /// Bytes received since.
    bytes: usize,
    /// When the first thing was received that the broker was not told of.
    since: Option<Instant>,
    processed: Vec<u64>,
    rejected: Vec<u64>,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Due {
    /// Send this now, and ask again.
    Now(wire::DeliveryAck),
    /// Ask again then.
    At(Instant),
    /// There is nothing to tell.
    Nothing,
}

impl Acks {
    pub(super) fn new() -> Self {
        let start = Position { delivered_through: 0, control_through: 0 };
        Self {
            kept: false,
            position: start,
            told: start,
            bytes: 0,
            since: None,
            processed: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// Deliveries are numbered anew. The frames of the control stream are counted on when the session goes on.
    pub(super) fn begin_session(&mut self, resumed: bool, kept: bool) {
        let control_through = if resumed { self.position.control_through } else { 0 };
        let start = Position { delivered_through: 0, control_through };
        *self = Self { kept, position: start, told: start, ..Self::new() };
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Whether the driver must be woken: something is due, or will be.
    pub(super) fn received(&mut self, through_seq: u64, bytes: usize, now: Instant) -> bool {
        let was_waiting = self.since.is_some();
        self.position.delivered_through = self.position.delivered_through.max(through_seq);
        self.note(bytes, now);
        self.kept && (self.is_full() || !was_waiting && self.since.is_some())
    }

    pub(super) fn control_received(&mut self, frames: u64, bytes: usize, now: Instant) {
        self.position.control_through += frames;
        self.note(bytes, now);
    }

    fn note(&mut self, bytes: usize, now: Instant) {
        if self.position != self.told {
            self.bytes += bytes;
            self.since.get_or_insert(now);
        }
    }

    /// A delivery whose publisher waits has come to its end.
    pub(super) fn settled(&mut self, seq: u64, verdict: Verdict) {
        match verdict {
            Verdict::Processed => self.processed.push(seq),
            Verdict::Rejected => self.rejected.push(seq),
        }
    }

    fn is_full(&self) -> bool {
        self.position.delivered_through - self.told.delivered_through >= DELIVERIES
            || self.position.control_through - self.told.control_through >= CONTROL_FRAMES
            || self.bytes >= BYTES
    }

    pub(super) fn due(&mut self, now: Instant) -> Due {
        let settled = !self.processed.is_empty() || !self.rejected.is_empty();
        match self.since {
            _ if settled => Due::Now(self.take()),
            Some(since) if self.kept && (self.is_full() || since + DELAY <= now) => Due::Now(self.take()),
            Some(since) if self.kept => Due::At(since + DELAY),
            _ => Due::Nothing,
        }
    }

    /// As [`due`](Self::due), without waiting for more.
    pub(super) fn outstanding(&mut self) -> Option<wire::DeliveryAck> {
        let settled = !self.processed.is_empty() || !self.rejected.is_empty();
        (settled || self.kept && self.since.is_some()).then(|| self.take())
    }

    fn take(&mut self) -> wire::DeliveryAck {
        let first = |numbers: &mut Vec<u64>| numbers.drain(..numbers.len().min(NUMBERS_MAX)).collect();
        (self.told, self.bytes, self.since) = (self.position, 0, None);
        wire::DeliveryAck {
            through_seq: self.position.delivered_through,
            processed: first(&mut self.processed),
            rejected: first(&mut self.rejected),
            control_through: self.position.control_through,
        }
    }
}

#[cfg(test)]
mod tests;
