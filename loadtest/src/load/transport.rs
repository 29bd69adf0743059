//! What a generator asks of a kind of broker.

use std::{error::Error, future::Future};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zonecast_protocol::{Circle, Zone};

use super::LoadSettings;

/// Who gets a copy of an event that touches several zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Each session one, however many of its zones are touched.
    PerSession,
    /// Each zone that is touched one, as where a zone is a subject or a channel.
    PerZone,
}

/// One kind of broker, as a generator process sees it.
///
/// A generator has one single-threaded tokio runtime and runs everything in a `LocalSet`, so nothing has to be `Send`,
/// and tasks may be started with `tokio::task::spawn_local`.
pub trait Transport: Sized + 'static {
    /// What the conductor tells every generator: addresses, the file of the authority to trust, and the like.
    type Target: Serialize + DeserializeOwned + Clone + 'static;
    /// A connection that publishes.
    type Publisher: Publisher + 'static;
    /// A session that receives.
    type Subscriber: Subscriber + 'static;
    /// How many copies of an event there are.
    const COPIES: Copies;

    /// Prepares what all connections of this process share.
    ///
    /// # Errors
    /// The target is not usable.
    fn open(target: &Self::Target, settings: &LoadSettings) -> Result<Self, TransportError>;

    /// Connects a publisher, numbered from 0.
    fn publisher(&self, index: u32) -> impl Future<Output = Result<Self::Publisher, TransportError>>;

    /// Connects a session, numbered from 0, that holds these zones, each with its number in the world. Returns when
    /// the broker has them in force.
    fn subscriber(
        &self,
        session: u32,
        zones: &[(u32, Zone)],
    ) -> impl Future<Output = Result<Self::Subscriber, TransportError>>;
}

/// An event on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where it happens.
    pub circle: Circle,
    /// The numbers of the zones that it touches, ascending; where zones move, those that it touches when all are at home.
    pub zones: &'a [u32],
    /// Which of its publisher's circles it is.
    pub pool_index: u32,
    /// What it carries.
    pub payload: &'a [u8],
}

/// A connection that publishes.
pub trait Publisher {
    /// Takes an event into the outgoing queue. Waits only for room there.
    fn publish(&mut self, event: Outgoing<'_>) -> impl Future<Output = Result<(), TransportError>>;

    /// Called after each burst: sees to it that what was taken goes out now.
    fn flush(&mut self) -> impl Future<Output = Result<(), TransportError>>;

    /// Waits until the oldest outstanding event is complete. Of each complete one, oldest first, adds how many sessions
    /// it matched, or `None` where the broker does not say.
    ///
    /// Where a broker confirms nothing, an event is complete when it was handed to the system.
    fn completed(&mut self, done: &mut Vec<Option<u32>>) -> impl Future<Output = Result<(), TransportError>>;

    /// The same without waiting.
    ///
    /// # Errors
    /// An event was refused, or the connection is lost.
    fn try_completed(&mut self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError>;

    /// Says goodbye.
    fn close(self) -> impl Future<Output = ()>;
}

/// A session that receives.
pub trait Subscriber {
    /// Its means to move zones; [`NoMover`] where there is none.
    type Mover: Mover + 'static;

    /// Waits for deliveries and hands over all that are there: [`Sink::batch`] once, then [`Sink::payload`] for each,
    /// without awaiting in between.
    ///
    /// Must be cancellation safe: what is not handed over stays.
    fn receive<S: Sink>(&mut self, sink: &mut S) -> impl Future<Output = Result<(), TransportError>>;

    /// Moves zones while somebody else receives.
    fn mover(&self) -> Option<Self::Mover>;

    /// Says goodbye.
    fn close(self) -> impl Future<Output = ()>;
}

/// Where deliveries go.
pub trait Sink {
    /// Deliveries have arrived; reads the clock for all that are handed over next.
    fn batch(&mut self);
    /// One of them: for which session ([`Copies::PerSession`]) or zone ([`Copies::PerZone`]), and what it carries.
    fn payload(&mut self, receiver: u32, payload: &[u8]);
}

/// Moves the zones of one session.
pub trait Mover {
    /// Moves zones in one step. Returns when the broker has it in force.
    fn move_zones(&self, zones: &[(u32, Zone)]) -> impl Future<Output = Result<(), TransportError>>;
}

/// For brokers whose zones stay where they are.
#[derive(Debug, Clone, Copy)]
pub enum NoMover {}

impl Mover for NoMover {
    async fn move_zones(&self, _zones: &[(u32, Zone)]) -> Result<(), TransportError> {
        match *self {}
    }
}

/// Why a transport failed.
#[derive(Debug, Error)]
#[error("{doing}: {source}")]
pub struct TransportError {
    doing: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl TransportError {
    /// What could not be done ("cannot connect"), and why.
    pub fn new(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing, source: source.into() }
    }
}
