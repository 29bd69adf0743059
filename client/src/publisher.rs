//! Publishing: into the lane's queue, and the answers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{TryAcquireError, broadcast, oneshot},
    time::{Sleep, sleep, timeout},
};
use zonecast_protocol::{AckLevel, Refusal};

use crate::{
    connection::Command,
    error::PublishError,
    event::EventId,
    handle::{AckToken, Handle, Lane},
    lanes::{Keep, Queued},
    publish::{Publish, Stamp},
    sync::locked,
};

/// How much later than the broker the client gives up: the answer may be on its way.
const EXPIRY_GRACE: Duration = Duration::from_secs(5);

/// The broker's answer to an acknowledged publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// How many sessions the event was routed to. 0 is an answer: nobody owns that place, or listens to that topic.
    pub matched: u32,
}

/// A receipt that is still under way: await it, at once or later.
///
/// Many can be awaited at once; the order in which they are awaited does not matter. Dropping one does not take the
/// publish back; should it be refused, that shows at [`Client::refusals`](crate::Client::refusals).
#[derive(Debug)]
#[must_use = "await it to learn what became of the publish, or use Client::publish"]
pub struct PendingReceipt {
    id: EventId,
    answer: oneshot::Receiver<Result<Receipt, PublishError>>,
    expiry: Option<Expiry>,
}

/// When to give up waiting for an event to be processed.
#[derive(Debug)]
struct Expiry {
    elapsed: Pin<Box<Sleep>>,
    lane: Arc<Lane>,
}

impl PendingReceipt {
    /// The name of the event that was published.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }
}

/// Takes a publish back when dropped: it is not sent, or not again, unless its answer has come.
pub(crate) struct TakenBack<'a> {
    lane: &'a Lane,
    lane_seq: u64,
}

impl Drop for TakenBack<'_> {
    fn drop(&mut self) {
        self.lane.give_up(self.lane_seq);
    }
}

impl Future for PendingReceipt {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            return Poll::Ready(answer.unwrap_or(Err(PublishError::Closed)));
        }
        let lane_seq = self.id.lane_seq;
        let Some(expiry) = &mut self.expiry else { return Poll::Pending };
        ready!(expiry.elapsed.as_mut().poll(cx));
        expiry.lane.give_up(lane_seq);
        Poll::Ready(Err(PublishError::Expired))
    }
}

/// A publish without acknowledgement that the broker refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedPublish {
    /// The lane.
    pub lane: u32,
    /// The event's number on the lane; 0 when the broker could not read it.
    pub lane_seq: u64,
    /// Why.
    pub refusal: Refusal,
}

impl RefusedPublish {
    pub(crate) fn new(lane: u32, lane_seq: u64, refusal: Refusal) -> Self {
        Self { lane, lane_seq, refusal }
    }
}

/// What [`Refusals`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalItem {
    /// A refusal.
    Refused(RefusedPublish),
    /// So many were left out, because they came faster than they were read.
    Skipped(u64),
}

/// Refusals of publishes that asked for no acknowledgement. See [`Client::refusals`](crate::Client::refusals).
#[derive(Debug)]
pub struct Refusals {
    receiver: broadcast::Receiver<RefusedPublish>,
}

impl Refusals {
    pub(crate) fn new(receiver: broadcast::Receiver<RefusedPublish>) -> Self {
        Self { receiver }
    }

    /// The next; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<RefusalItem> {
        match self.receiver.recv().await {
            Ok(refused) => Some(RefusalItem::Refused(refused)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(RefusalItem::Skipped(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Microseconds since 1970 by the system's clock.
pub(crate) fn now_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

impl Handle {
    /// Takes a publish of this client back when dropped.
    pub(crate) fn taken_back(&self, id: EventId) -> Option<TakenBack<'_>> {
        self.shared.lane(id.lane).map(|lane| TakenBack { lane, lane_seq: id.lane_seq })
    }

    /// Queues a publish, waiting for room on its lane.
    pub(crate) async fn publish(&self, publish: &Publish<'_>) -> Result<EventId, PublishError> {
        let ack = publish.least_ack();
        let (lane, room) = self.wait_for_room(publish, ack).await?;
        self.enqueue(lane, publish, room, ack, None)
    }

    /// Queues a publish if its lane has room now.
    pub(crate) fn try_publish(&self, publish: &Publish<'_>) -> Result<EventId, PublishError> {
        let ack = publish.least_ack();
        match self.take_room(publish, ack)? {
            (lane, room, true) => self.enqueue(lane, publish, room, ack, None),
            (_, _, false) => Err(PublishError::LaneFull),
        }
    }

    /// Queues a publish whose answer is awaited, at the level `Routed` or `Processed`.
    pub(crate) async fn publish_with_ack(
        &self,
        publish: &Publish<'_>,
        ack: AckLevel,
    ) -> Result<PendingReceipt, PublishError> {
        let (lane, room) = self.wait_for_room(publish, ack).await?;
        let (token, answer) = oneshot::channel();
        let id = self.enqueue(lane, publish, room, ack, Some(token))?;
        let expiry = (ack == AckLevel::Processed).then(|| {
            let patience = Duration::from_millis(publish.expires_in_ms().into()) + EXPIRY_GRACE;
            Expiry { elapsed: Box::pin(sleep(patience)), lane: lane.clone() }
        });
        Ok(PendingReceipt { id, answer, expiry })
    }

    /// The permits are the queue's from here on: it gives them back when the frame need not be kept any longer.
    async fn wait_for_room(&self, publish: &Publish<'_>, ack: AckLevel) -> Result<(&Arc<Lane>, u32), PublishError> {
        // Or who publishes in a loop, and never has to wait, would keep its thread from everything else.
        tokio::task::coop::consume_budget().await;
        let (lane, room, taken) = self.take_room(publish, ack)?;
        if taken {
            return Ok((lane, room));
        }
        let acquire = lane.room.acquire_many(room);
        let permit = match self.publish_timeout {
            Some(waited) => timeout(waited, acquire).await.map_err(|_| PublishError::TimedOut { waited })?,
            None => acquire.await,
        };
        permit.map_err(|_| PublishError::Closed)?.forget();
        Ok((lane, room))
    }

    /// Checks a publish, and takes the room that it needs if it is there now.
    fn take_room(&self, publish: &Publish<'_>, ack: AckLevel) -> Result<(&Arc<Lane>, u32, bool), PublishError> {
        self.shared.with_limits(|limits| publish.check(limits, ack)).map_err(PublishError::Invalid)?;
        let lane = self.lane(publish.lane)?;
        let room = self.room_of(publish);
        match lane.room.try_acquire_many(room) {
            Ok(permit) => {
                permit.forget();
                Ok((lane, room, true))
            }
            Err(TryAcquireError::NoPermits) => Ok((lane, room, false)),
            Err(TryAcquireError::Closed) => Err(PublishError::Closed),
        }
    }

    fn lane(&self, number: u8) -> Result<&Arc<Lane>, PublishError> {
        let (lane, opened) = self.shared.open_lane(number);
        if opened && self.commands.send(Command::LaneOpened(lane.clone())).is_err() {
            // The driver has ended and will never write it: nothing may wait in it.
            lane.room.close();
            let _ = locked(&lane.queue).end();
            return Err(PublishError::Closed);
        }
        Ok(lane)
    }

    /// A frame greater than the whole queue takes all of it.
    fn room_of(&self, publish: &Publish<'_>) -> u32 {
        let most = self.shared.queues.lane_bytes_max;
        u32::try_from(publish.frame_bytes_max()).unwrap_or(most).min(most)
    }

    fn enqueue(
        &self,
        lane: &Lane,
        publish: &Publish<'_>,
        room: u32,
        ack: AckLevel,
        token: Option<AckToken>,
    ) -> Result<EventId, PublishError> {
        let source = self.shared.source;
        let published_at_us = if publish.wants_time() { now_us() } else { 0 };
        let keep = match ack {
            AckLevel::Unspecified => Keep::Written,
            AckLevel::Routed if publish.is_at_most_once() => Keep::RoutedOnce,
            AckLevel::Routed => Keep::Routed,
            AckLevel::Processed => Keep::Processed,
        };
        let queued = locked(&lane.queue).push(room, keep, token, |lane_seq, out| {
            publish.encode(&Stamp { source, lane_seq, published_at_us }, ack, out);
        });
        let Queued { lane_seq, wake, dropped } = queued.map_err(|_| PublishError::Closed)?;
        if dropped.frames > 0 {
            lane.room.add_permits(dropped.room as usize);
            self.shared.counters.dropped_unsent.fetch_add(dropped.frames, Relaxed);
        }
        if wake {
            lane.work.notify_one();
        }
        Ok(EventId { source, lane: lane.number, lane_seq })
    }
}

impl fmt::Display for RefusedPublish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publish {} of lane {}: {}", self.lane_seq, self.lane, self.refusal)
    }
}
