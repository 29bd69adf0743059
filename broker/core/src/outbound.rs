//! An event on its way to sessions, and the ticket by which its publisher learns what became of it.

use std::{cell::OnceCell, sync::Arc};

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

/// What sessions must know of an event beside its bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventHead {
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

impl EventHead {
    /// Of an event that came like this.
    #[must_use]
    pub fn new(view: &EventView<'_>, arrival: Arrival) -> Self {
        let Arrival { at_us, resent, ticket } = arrival;
        let state_key = (view.class == DeliveryClass::State).then(|| Arc::new((view.source, view.key.into())));
        let is_rare = ticket.is_some() || state_key.is_some();
        let rare = is_rare.then(|| Arc::new(Rare { ticket, state_key }));
        Self { at_us, rare, class: view.class, resent }
    }

    /// How it came.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        Arrival { at_us: self.at_us, resent: self.resent, ticket: self.ticket() }
    }

    /// The ticket of a publisher who waits.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        self.rare.as_ref().and_then(|rare| rare.ticket)
    }

    /// For state events: whose value this is.
    pub(crate) fn state_key(&self) -> Option<&Arc<StateKey>> {
        self.rare.as_ref()?.state_key.as_ref()
    }

    /// Whether it may be dropped.
    pub(crate) fn is_transient(&self) -> bool {
        self.class == DeliveryClass::Transient
    }

    /// Whether it is delivered in its turn and nobody waits for it: neither dropped, nor replaced, nor awaited.
    pub(crate) fn is_plain(&self) -> bool {
        self.class == DeliveryClass::Reliable && self.rare.is_none()
    }
}

/// An event on its way to sessions: where its publisher's bytes lie, and what is to be known of them.
///
/// Sessions copy the bytes of most events behind others; those who must find the event again share one copy of it.
#[derive(Debug)]
pub struct OutboundEvent<'a> {
    head: &'a EventHead,
    bytes: &'a [u8],
    held: OnceCell<HeldEvent>,
}

impl<'a> OutboundEvent<'a> {
    /// The encoded event, byte for byte as its publisher sent it.
    #[must_use]
    pub fn new(head: &'a EventHead, bytes: &'a [u8]) -> Self {
        Self { head, bytes, held: OnceCell::new() }
    }

    /// What is to be known of it.
    #[must_use]
    pub fn head(&self) -> &'a EventHead {
        self.head
    }

    /// The encoded event.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy that is shared by all who hold it.
    pub(crate) fn held(&self) -> HeldEvent {
        self.held.get_or_init(|| HeldEvent { head: self.head.clone(), bytes: self.bytes.into() }).clone()
    }
}

/// An event that is held until it is delivered, replaced, dropped or processed.
#[derive(Debug, Clone)]
pub(crate) struct HeldEvent {
    head: EventHead,
    bytes: Arc<[u8]>,
}

impl HeldEvent {
    /// What is to be known of it.
    pub(crate) fn head(&self) -> &EventHead {
        &self.head
    }

    /// The encoded event.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
