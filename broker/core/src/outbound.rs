//! An event on its way to sessions, and the ticket by which its publisher learns what became of it.

use std::sync::Arc;

use zonecast_protocol::{DeliveryClass, EventView};

/// Names one publish whose publisher waits until all who received it have processed it. Issued by [`crate::Tickets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// The worker that issued it.
    pub worker: u16,
    /// Its number there.
    pub number: u64,
}

/// What became of one delivery that has a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The session's application has processed it.
    Processed,
    /// The session's application rejects it, or was lost with it too often.
    Rejected,
    /// The session ended before it said so.
    Lost,
}

/// How an event came to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrival {
    /// When, in microseconds on the broker's own clock.
    pub at_us: u64,
    /// Its publisher may have sent it before.
    pub resent: bool,
    /// Its publisher waits until all who receive it have processed it.
    pub ticket: Option<Ticket>,
}

/// An event on its way to sessions: the publisher's bytes and what the outbox must know of them. Cheap to clone.
///
/// What is looked at for every delivery lies in the handle itself; the bytes are one allocation, which all share.
#[derive(Debug, Clone)]
pub struct OutboundEvent {
    bytes: Arc<[u8]>,
    at_us: u64,
    rare: Option<Arc<Rare>>,
    class: DeliveryClass,
    resent: bool,
}

/// What most events have nothing of.
#[derive(Debug)]
struct Rare {
    ticket: Option<Ticket>,
    state_key: Option<Arc<StateKey>>,
}

/// Whose latest value a state event is: publisher and key.
pub(crate) type StateKey = (u64, Box<str>);

impl OutboundEvent {
    /// Takes an event out of the buffer it arrived in.
    ///
    /// The bytes are copied, once per event, so that a waiting event keeps no receive buffer of up to 64 KiB alive.
    #[must_use]
    pub fn new(view: &EventView<'_>, bytes: &[u8], arrival: Arrival) -> Self {
        let Arrival { at_us, resent, ticket } = arrival;
        let state_key = (view.class == DeliveryClass::State).then(|| Arc::new((view.source, view.key.into())));
        let is_rare = ticket.is_some() || state_key.is_some();
        let rare = is_rare.then(|| Arc::new(Rare { ticket, state_key }));
        Self { bytes: bytes.into(), at_us, rare, class: view.class, resent }
    }

    /// The encoded event, byte for byte as its publisher sent it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is promised.
    #[must_use]
    pub fn class(&self) -> DeliveryClass {
        self.class
    }

    /// How it came.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        Arrival { at_us: self.at_us, resent: self.resent, ticket: self.rare.as_ref().and_then(|rare| rare.ticket) }
    }

    /// For state events: whose value this is.
    pub(crate) fn state_key(&self) -> Option<&Arc<StateKey>> {
        self.rare.as_ref()?.state_key.as_ref()
    }

    /// Whether it may be dropped.
    pub(crate) fn is_transient(&self) -> bool {
        self.class == DeliveryClass::Transient
    }
}
