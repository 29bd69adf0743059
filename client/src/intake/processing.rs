//! Events whose publishers wait until they are processed, from their arrival until the application is done.
//!
//! Pure: no runtime, no clock, no lock.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::EventId;

/// Most rejected events that are remembered; then the oldest are forgotten. They are asked for again only when the
/// connection was lost before the broker had heard of the rejection.
const REJECTED_MAX: usize = 65_536;

/// What the application made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Processed,
    Rejected,
}

/// An event is known by its name, which is the same in every session; deliveries are numbered anew in each.
pub(super) struct Processing {
    /// Counts sessions.
    session: u64,
    under_way: FxHashMap<EventId, UnderWay>,
    rejected: FxHashSet<EventId>,
    /// The same, oldest first.
    rejected_in_order: VecDeque<EventId>,
}

struct UnderWay {
    /// The latest delivery, and the session that it was in.
    seq: u64,
    session: u64,
    /// Subscriptions that are not done.
    parts: u32,
    /// One of them has rejected it.
    rejected: bool,
}

impl Processing {
    pub(super) fn new() -> Self {
        Self {
            session: 0,
            under_way: FxHashMap::default(),
            rejected: FxHashSet::default(),
            rejected_in_order: VecDeque::new(),
        }
    }

    /// Delivery numbers mean something else from here on.
    pub(super) fn begin_session(&mut self) {
        self.session += 1;
    }

    /// An event is given to so many subscriptions, at least one.
    pub(super) fn begin(&mut self, id: EventId, seq: u64, parts: u32) {
        let session = self.session;
        let new = UnderWay { seq, session, parts: 0, rejected: false };
        let event = self.under_way.entry(id).or_insert(new);
        event.parts += parts;
        (event.seq, event.session) = (seq, session);
    }

    /// An event that is under way is given to further subscriptions.
    pub(super) fn begin_more(&mut self, id: EventId, parts: u32) {
        if let Some(event) = self.under_way.get_mut(&id) {
            event.parts += parts;
        }
    }

    /// An event is delivered again. What to tell the broker; `None` while it is being processed.
    pub(super) fn again(&mut self, id: EventId, seq: u64) -> Option<Verdict> {
        if let Some(event) = self.under_way.get_mut(&id) {
            (event.seq, event.session) = (seq, self.session);
            return None;
        }
        Some(if self.rejected.contains(&id) { Verdict::Rejected } else { Verdict::Processed })
    }

    /// One of the subscriptions is done. When all are: what to tell the broker, of which delivery of this session. None
    /// when the event was not delivered in this session: it is asked for again there.
    pub(super) fn finish_part(&mut self, id: EventId, verdict: Verdict) -> Option<(u64, Verdict)> {
        let event = self.under_way.get_mut(&id)?;
        event.rejected |= verdict == Verdict::Rejected;
        event.parts -= 1;
        if event.parts > 0 {
            return None;
        }
        let event = self.under_way.remove(&id)?;
        let verdict = if event.rejected { Verdict::Rejected } else { Verdict::Processed };
        if event.rejected {
            self.reject(id);
        }
        (event.session == self.session).then_some((event.seq, verdict))
    }

    /// Remembers an event as rejected.
    pub(super) fn reject(&mut self, id: EventId) {
        if self.rejected.insert(id) {
            self.rejected_in_order.push_back(id);
        }
        if self.rejected_in_order.len() > REJECTED_MAX
            && let Some(oldest) = self.rejected_in_order.pop_front()
        {
            self.rejected.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
