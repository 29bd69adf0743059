//! What workers tell each other, and what the outside asks of them.

mod hand_overs;

use std::{convert::Infallible, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use zonecast_core::{InterestChange, Outcome, SessionId, Settled, ZoneInterest};
use zonecast_protocol::{ClientId, Refusal};

pub(crate) use self::hand_overs::HandOvers;
use crate::{
    session::{Gauge, TakeOver},
    stats::Snapshot,
};

/// Messages that wait in one worker's mailbox before senders wait. Few: what waits here is not seen by the gauges of the
/// sessions that it is for, and must fit between the soft and the hard mark of their outboxes.
pub(crate) const MAILBOX_MESSAGES_MAX: usize = 16;

/// A message to a worker. Handling one never waits, so workers cannot wait for each other in a circle.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A session begins on another worker; its gauge says whether it can take more.
    Opened(SessionId, Arc<Gauge>),
    /// Apply the change; dropping `Applied` tells the sender so.
    Interest(Arc<InterestChange>, Applied),
    /// Events that matched sessions of this worker.
    Deliveries(HandOvers),
    /// A session of another worker hands zones over to one of this worker.
    TakeZones(TakeZones),
    /// A session of this worker ends, and a new one takes its place.
    TakeOver(TakeOver),
    /// Dropped when its turn has come: all mail that was sent before has been handled.
    Barrier(oneshot::Sender<Infallible>),
    /// What became of deliveries, by the numbers of the tickets that this worker issued.
    Outcomes(Vec<(u64, Outcome)>),
    /// Answers for publishers whose sessions are, or were just now, on this worker.
    Settled(Vec<Settled>),
    /// Count what is here.
    Snapshot(oneshot::Sender<Snapshot>),
}

/// Zones on their way from one session to another.
#[derive(Debug)]
pub(crate) struct TakeZones {
    pub(crate) from: SessionId,
    pub(crate) from_client: ClientId,
    pub(crate) to: SessionId,
    pub(crate) zones: Vec<(u32, ZoneInterest)>,
    pub(crate) answer: oneshot::Sender<Result<u64, Refusal>>,
}

/// Held by whoever has yet to apply a change; the change is in force once all are dropped.
pub(crate) type Applied = mpsc::Sender<Infallible>;
