//! Events that one worker matched for sessions of another.

use zonecast_core::{EventHead, OutboundEvent, SessionId};

/// Most room that is got before it is needed.
const EVENTS_ROOM_MAX: usize = 1 << 10;
const BYTES_ROOM_MAX: usize = 64 << 10;

/// Events for sessions of one worker, in order. They lie flat, so that a batch is a few allocations however many it holds.
#[derive(Debug, Default)]
pub(crate) struct HandOvers {
    events: Vec<HandedOver>,
    /// Of all events, one behind the other.
    bytes: Vec<u8>,
    sessions: Vec<SessionId>,
}

/// One of them: what is to be known of it, and where what belongs to it ends.
#[derive(Debug)]
struct HandedOver {
    head: EventHead,
    bytes_end: usize,
    sessions_end: usize,
}

impl HandOvers {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds an event that these sessions are to get.
    pub(crate) fn push(&mut self, event: &OutboundEvent<'_>, sessions: &[SessionId]) {
        self.bytes.extend_from_slice(event.bytes());
        self.sessions.extend_from_slice(sessions);
        let (bytes_end, sessions_end) = (self.bytes.len(), self.sessions.len());
        self.events.push(HandedOver { head: event.head().clone(), bytes_end, sessions_end });
    }

    /// Takes out what is there. The next batch has room for as much, within bounds: a lane may be idle after it.
    pub(crate) fn take(&mut self) -> Self {
        let next = Self {
            events: Vec::with_capacity(self.events.len().min(EVENTS_ROOM_MAX)),
            bytes: Vec::with_capacity(self.bytes.len().min(BYTES_ROOM_MAX)),
            sessions: Vec::with_capacity(self.sessions.len().min(EVENTS_ROOM_MAX)),
        };
        std::mem::replace(self, next)
    }

    /// Each event with the sessions that are to get it.
    pub(crate) fn each(&self) -> impl Iterator<Item = (OutboundEvent<'_>, &[SessionId])> {
        let (mut bytes, mut sessions) = (0, 0);
        self.events.iter().map(move |HandedOver { head, bytes_end, sessions_end }| {
            let event = OutboundEvent::new(head, &self.bytes[bytes..*bytes_end]);
            let receivers = &self.sessions[sessions..*sessions_end];
            (bytes, sessions) = (*bytes_end, *sessions_end);
            (event, receivers)
        })
    }
}
