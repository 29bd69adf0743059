//! Deliveries that a new run of a client inherits from the one before, and that come before the application has
//! subscribed to anything.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{event::Event, mailbox::MailboxBounds};

/// How long after the first connection an application may take to subscribe.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits for a subscription, in the order in which it came.
pub(super) struct Held {
    events: VecDeque<Event>,
    bytes: usize,
    bounds: MailboxBounds,
    /// `None` before the first connection.
    until: Option<Instant>,
}

impl Held {
    pub(super) fn new(bounds: MailboxBounds) -> Self {
        Self { events: VecDeque::new(), bytes: 0, bounds, until: None }
    }

    /// The first connection is made.
    pub(super) fn begin(&mut self, now: Instant) {
        self.until = Some(now + PATIENCE);
    }

    /// Whether an event for which there is no subscription may wait for one.
    pub(super) fn has_room(&self, event: &Event, now: Instant) -> bool {
        let bytes = self.bytes + event.raw().len();
        let room = self.events.len() < self.bounds.items_max && bytes <= self.bounds.bytes_max;
        room && self.until.is_some_and(|until| now < until)
    }

    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.raw().len();
        self.events.push_back(event);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// All of them, to be looked at again.
    pub(super) fn take(&mut self) -> VecDeque<Event> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }

    /// When they have waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_empty())
    }
}
