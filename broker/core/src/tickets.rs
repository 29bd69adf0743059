//! Publishes whose publishers wait until all who received them have processed them.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use zonecast_protocol::wire::ErrorCode;

use crate::{Outcome, Ticket};

/// The answer to a publish that waited to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The publisher's source.
    pub publisher: u64,
    /// The event's lane.
    pub lane: u32,
    /// The event's number on the lane.
    pub lane_seq: u64,
    /// How many sessions have processed it, all that it matched; or why not.
    pub result: Result<u32, ErrorCode>,
}

#[derive(Debug)]
struct Open {
    publisher: u64,
    lane: u32,
    lane_seq: u64,
    matched: u32,
    /// Sessions that have not said that they processed it.
    remaining: u32,
    expires_at_us: u64,
}

/// The open tickets of one worker.
///
/// Each ticket is settled once: when all sessions have processed the event, or by the first thing that makes that
/// impossible. Outcomes that come after that change nothing.
#[derive(Debug)]
pub struct Tickets {
    worker: u16,
    last_number: u64,
    open: FxHashMap<u64, Open>,
    /// Expiry and number of each.
    expiries: BTreeSet<(u64, u64)>,
    by_publisher: FxHashMap<u64, usize>,
}

impl Tickets {
    /// The tickets of a worker.
    #[must_use]
    pub fn new(worker: u16) -> Self {
        Self {
            worker,
            last_number: 0,
            open: FxHashMap::default(),
            expiries: BTreeSet::new(),
            by_publisher: FxHashMap::default(),
        }
    }

    /// Issues a ticket for an event that matched so many sessions, at least one.
    pub fn issue(&mut self, publisher: u64, lane: u32, lane_seq: u64, matched: u32, expires_at_us: u64) -> Ticket {
        self.last_number += 1;
        let number = self.last_number;
        self.open.insert(number, Open { publisher, lane, lane_seq, matched, remaining: matched, expires_at_us });
        self.expiries.insert((expires_at_us, number));
        *self.by_publisher.entry(publisher).or_default() += 1;
        Ticket { worker: self.worker, number }
    }

    /// How many publishes of this publisher wait.
    #[must_use]
    pub fn open_of(&self, publisher: u64) -> usize {
        self.by_publisher.get(&publisher).copied().unwrap_or(0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes what became of one of a ticket's deliveries. The answer, when that settles the ticket.
    pub fn report(&mut self, number: u64, outcome: Outcome) -> Option<Settled> {
        let open = self.open.get_mut(&number)?;
        match outcome {
            Outcome::Processed => {
                open.remaining -= 1;
                let matched = open.matched;
                if open.remaining > 0 { None } else { self.settle(number, Ok(matched)) }
            }
            Outcome::Rejected => self.settle(number, Err(ErrorCode::Poison)),
            Outcome::Lost => self.settle(number, Err(ErrorCode::SessionLost)),
        }
    }

    /// The next expiry, if anything waits.
    #[must_use]
    pub fn next_expiry_us(&self) -> Option<u64> {
        self.expiries.first().map(|(expires_at_us, _)| *expires_at_us)
    }

    /// Settles a ticket that has expired by now; call it until `None`.
    pub fn expire(&mut self, now_us: u64) -> Option<Settled> {
        let (expires_at_us, number) = *self.expiries.first()?;
        if expires_at_us > now_us { None } else { self.settle(number, Err(ErrorCode::Expired)) }
    }

    fn settle(&mut self, number: u64, result: Result<u32, ErrorCode>) -> Option<Settled> {
        let Open { publisher, lane, lane_seq, expires_at_us, .. } = self.open.remove(&number)?;
        self.expiries.remove(&(expires_at_us, number));
        if let Some(count) = self.by_publisher.get_mut(&publisher) {
            *count -= 1;
            if *count == 0 {
                self.by_publisher.remove(&publisher);
            }
        }
        Some(Settled { publisher, lane, lane_seq, result })
    }
}
