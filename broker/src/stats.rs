//! What a worker counts: plain numbers on its own thread, copied out when somebody asks.

use rustc_hash::FxHashMap;
use zonecast_core::DurationHistogram;
use zonecast_protocol::{DeliveryClass, code_label, wire::ErrorCode};

/// One event in so many has its matching timed.
pub(crate) const MATCH_SAMPLE_EVERY: u64 = 64;

/// Counters of one worker since its start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    pub(crate) handshakes_failed: FxHashMap<&'static str, u64>,
    /// Handshakes put off until the peer has shown that its address is its own.
    pub(crate) retries_out: u64,
    pub(crate) sessions_opened: u64,
    pub(crate) sessions_ended: FxHashMap<&'static str, u64>,
    pub(crate) events_in: EventsByClass,
    pub(crate) events_unmatched: u64,
    pub(crate) event_bytes_in: u64,
    pub(crate) refusals: FxHashMap<ErrorCode, u64>,
    pub(crate) deliveries_queued: u64,
    pub(crate) deliveries_out: u64,
    pub(crate) delivery_bytes_out: u64,
    pub(crate) gaps_out: u64,
    /// Among the deliveries.
    pub(crate) datagrams_out: u64,
    /// By sessions that have ended.
    pub(crate) dropped_transient: u64,
    pub(crate) dropped_at_end: u64,
    pub(crate) state_replaced: u64,
    pub(crate) publishers_held: u64,
    pub(crate) publishers_let_go: u64,
    pub(crate) publishers_ahead_of_rate: u64,
    pub(crate) hand_overs: u64,
    /// Sessions whose link was lost and that were kept.
    pub(crate) sessions_detached: u64,
    /// Sessions that went on in a new one.
    pub(crate) sessions_resumed: u64,
    /// Deliveries given up because too many runs of their receiver were lost with them.
    pub(crate) poisoned: u64,
    /// Publishes whose receivers have all processed them.
    pub(crate) processed: u64,
    /// Publishes that were not processed by all, by the reason.
    pub(crate) unprocessed: FxHashMap<ErrorCode, u64>,
    pub(crate) matching: DurationHistogram,
    pub(crate) residence: DurationHistogram,
}

impl Stats {
    /// Counts a publish that waited to be processed.
    pub(crate) fn count_settled(&mut self, result: Result<u32, ErrorCode>) {
        match result {
            Ok(_) => self.processed += 1,
            Err(code) => *self.unprocessed.entry(code).or_default() += 1,
        }
    }

    /// Counts a session's end, and the deliveries it left behind.
    pub(crate) fn count_end(&mut self, end: &'static str, left_behind: usize) {
        *self.sessions_ended.entry(end).or_default() += 1;
        self.dropped_at_end += left_behind as u64;
    }
}

/// How a session ended, for logs and metrics; `None` is a lost connection.
pub(crate) fn end_label(code: Option<ErrorCode>) -> &'static str {
    match code {
        None => "CONNECTION_LOST",
        Some(ErrorCode::Unspecified) => "GOODBYE",
        Some(code) => code_label(code),
    }
}

/// Events by delivery class.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EventsByClass {
    pub(crate) reliable: u64,
    pub(crate) state: u64,
    pub(crate) transient: u64,
}

impl EventsByClass {
    pub(crate) fn count(&mut self, class: DeliveryClass) {
        match class {
            DeliveryClass::State => self.state += 1,
            DeliveryClass::Transient => self.transient += 1,
            DeliveryClass::Reliable | DeliveryClass::Unspecified => self.reliable += 1,
        }
    }
}

/// A worker's counters and what it holds right now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) stats: Stats,
    pub(crate) sessions: usize,
    pub(crate) queue_deliveries: usize,
    pub(crate) queue_bytes: usize,
    /// Written and not acknowledged.
    pub(crate) kept_deliveries: usize,
    /// Of all that waits or is not acknowledged.
    pub(crate) held_bytes: usize,
    /// Publishes that wait to be processed.
    pub(crate) tickets: usize,
    /// Of the interest table, which is the same on every worker.
    pub(crate) zones: usize,
    pub(crate) topics: usize,
    pub(crate) epoch: u64,
    /// Name, zones, and events that this worker routed there.
    pub(crate) worlds: Vec<(String, usize, u64)>,
}
