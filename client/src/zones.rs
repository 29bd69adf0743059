//! The zone subscription: one per client, its set of zones changeable while it is read.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures_core::Stream;
use prost::Message as _;
use zonecast_protocol::{
    ClientId, ErrorCode, HANDED_OVER_ZONE_ID_MIN, Kind, Limits, NameError, Refusal, WorldName, wire,
};

use crate::{
    error::ZoneError,
    event::Event,
    feed::Feed,
    handle::{Handle, OperateError},
    item::{ZoneItem, ZoneSpec},
    mailbox::Mailbox,
    session::{Operation, OperationError},
};

/// Bytes by which a request is longer than its zones, at most; and each zone in it than alone.
const REQUEST_OVERHEAD_BYTES_MAX: usize = 64;
const ZONE_OVERHEAD_BYTES_MAX: usize = 6;

/// The events of a client's zones, and what else befalls them. See [`Client::subscribe_zones`].
///
/// It is a [`Stream`] of [`ZoneItem`]s and never fails: lost connections are made again, and shown as
/// [`ZoneItem::Interrupted`]; zones that a broker does not grant again are shown as [`ZoneItem::Refused`]. It ends when the client is closed. Dropping it gives up all zones.
///
/// Read it steadily. What waits for it is bounded, and when the bound is reached the client stops reading from the
/// broker, also for its other subscriptions and its replies: there is one stream of deliveries. A broker ends a client
/// that reads nothing for 10 s.
///
/// [`Client::subscribe_zones`]: crate::Client::subscribe_zones
pub struct ZoneSubscription {
    control: ZoneControl,
    feed: Feed<ZoneItem>,
}

/// Changes the zones of a [`ZoneSubscription`], from any task.
///
/// Each change is one step: every event is matched wholly before it or wholly after it. Changes are carried out in the
/// order in which they are asked for. Each returns the change's epoch, its number in the broker's order of changes, when
/// it is in force: whatever anyone publishes after that is matched by it. While there is no connection, changes wait for
/// the next one, as long as it takes: wrap them in a timeout where that matters. Dropping the future of a change does not
/// take the change back.
#[derive(Clone)]
pub struct ZoneControl {
    handle: Arc<Handle>,
    alive: Arc<AtomicBool>,
}

impl ZoneSubscription {
    pub(crate) async fn open(handle: Arc<Handle>, zones: Vec<ZoneSpec>) -> Result<Self, ZoneError> {
        let shared = &handle.shared;
        let upsert = checked(zones, &shared.limits())?;
        if shared.zones_taken.swap(true, Relaxed) {
            return Err(ZoneError::AlreadySubscribed);
        }
        let mailbox = Arc::new(Mailbox::new(shared.queues.deliveries));
        let feed = Feed::new(mailbox.clone());
        shared.routes.set_zones(Some(mailbox));
        let control = ZoneControl { handle: handle.clone(), alive: Arc::new(AtomicBool::new(true)) };
        // From here on a drop cleans up, also when the caller stops waiting.
        let subscription = Self { control, feed };
        let operation = Operation::ChangeZones { replace_all: true, upsert, remove: Vec::new() };
        subscription.control.operate(operation).await?;
        Ok(subscription)
    }

    /// The next item; `None` when the client is closed.
    ///
    /// Who asks for it is done with the event before, as far as that event's publisher is concerned. A loop that gives its
    /// events to other tasks must therefore read [`explicit`](Self::explicit)ly, or events count as processed before they
    /// are:
    ///
    /// ```no_run
    /// # use zonecast_client::{Event, ZoneSubscription};
    /// # async fn handle(event: &Event) {}
    /// # async fn example(zones: ZoneSubscription) {
    /// let mut zones = zones.explicit();
    /// while let Some(item) = zones.next().await {
    ///     if let Some(event) = item.into_event() {
    ///         tokio::spawn(async move {
    ///             handle(&event).await;
    ///             event.done();
    ///         });
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<ZoneItem> {
        self.feed.next().await
    }

    /// The next event, passing over everything else: for applications that do not mind what they miss.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.feed.next_event().await
    }

    /// From now on events are done only when the application says so, by [`Event::done`]: for applications that go on
    /// reading while they still work on earlier events.
    ///
    /// This concerns events whose publishers wait until they are processed
    /// ([`Client::publish_processed`](crate::Client::publish_processed)). By default an event counts as processed when
    /// the subscription is asked for its next item. One that is dropped before that, with the subscription or, here,
    /// with its last clone, is rejected, and its publisher learns that it was not processed.
    #[must_use]
    pub fn explicit(mut self) -> Self {
        self.feed.make_explicit();
        self
    }

    /// Changes the zones while another task reads. Clones are alike.
    #[must_use]
    pub fn control(&self) -> ZoneControl {
        self.control.clone()
    }

    /// As [`ZoneControl::set`].
    ///
    /// # Errors
    /// As there.
    pub async fn set(&self, zones: impl IntoIterator<Item = ZoneSpec>) -> Result<u64, ZoneError> {
        self.control.set(zones).await
    }

    /// As [`ZoneControl::put`].
    ///
    /// # Errors
    /// As there.
    pub async fn put(&self, zones: impl IntoIterator<Item = ZoneSpec>) -> Result<u64, ZoneError> {
        self.control.put(zones).await
    }

    /// As [`ZoneControl::remove`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove(&self, zone_ids: impl IntoIterator<Item = u32>) -> Result<u64, ZoneError> {
        self.control.remove(zone_ids).await
    }

    /// As [`ZoneControl::hand_over`].
    ///
    /// # Errors
    /// As there.
    pub async fn hand_over(
        &self,
        zone_ids: impl IntoIterator<Item = u32>,
        to_client_id: &str,
    ) -> Result<u64, ZoneError> {
        self.control.hand_over(zone_ids, to_client_id).await
    }
}

impl Stream for ZoneSubscription {
    type Item = ZoneItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ZoneItem>> {
        self.feed.poll_next(cx)
    }
}

impl Drop for ZoneSubscription {
    fn drop(&mut self) {
        let handle = &self.control.handle;
        self.control.alive.store(false, Relaxed);
        handle.shared.routes.set_zones(None);
        handle.give_up(Operation::EndZones);
        // Last: the next subscription's zones must be asked for behind the end of these.
        handle.shared.zones_taken.store(false, Relaxed);
    }
}

impl ZoneControl {
    /// Makes these zones the whole set; those that were handed over go too unless they are listed.
    ///
    /// # Errors
    /// The zones are not valid, the broker refuses them, or the subscription or the client has ended. Nothing changed
    /// then.
    pub async fn set(&self, zones: impl IntoIterator<Item = ZoneSpec>) -> Result<u64, ZoneError> {
        let upsert = checked(zones.into_iter().collect(), &self.handle.shared.limits())?;
        self.operate(Operation::ChangeZones { replace_all: true, upsert, remove: Vec::new() }).await
    }

    /// Adds zones, or moves those whose number is held already.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn put(&self, zones: impl IntoIterator<Item = ZoneSpec>) -> Result<u64, ZoneError> {
        let upsert = checked(zones.into_iter().collect(), &self.handle.shared.limits())?;
        self.operate(Operation::ChangeZones { replace_all: false, upsert, remove: Vec::new() }).await
    }

    /// Gives up the zones of these numbers.
    ///
    /// # Errors
    /// As [`set`](Self::set); a number that is not held is refused, and then none of the zones goes.
    pub async fn remove(&self, zone_ids: impl IntoIterator<Item = u32>) -> Result<u64, ZoneError> {
        let remove = zone_ids.into_iter().collect();
        self.operate(Operation::ChangeZones { replace_all: false, upsert: Vec::new(), remove }).await
    }

    /// Gives zones to another client that is connected to the same broker, without a moment in which both or neither
    /// hold them. The receiver should have a zone subscription, be it an empty one: it reads of the zones there.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`ZoneError::ConnectionLost`] when it is not known whether it happened. The client
    /// then still wants the zones: better both hold them for a while than neither.
    pub async fn hand_over(
        &self,
        zone_ids: impl IntoIterator<Item = u32>,
        to_client_id: &str,
    ) -> Result<u64, ZoneError> {
        ClientId::check(to_client_id).map_err(|error| ZoneError::Invalid(error.into()))?;
        let zone_ids = zone_ids.into_iter().collect();
        self.operate(Operation::HandOver { zone_ids, to_client_id: to_client_id.to_owned() }).await
    }

    async fn operate(&self, operation: Operation) -> Result<u64, ZoneError> {
        if !self.alive.load(Relaxed) {
            return Err(ZoneError::SubscriptionEnded);
        }
        self.handle.operate(operation, Some(self.alive.clone())).await.map_err(|error| match error {
            OperateError::Operation(OperationError::Refused(refusal)) => ZoneError::Refused(refusal),
            OperateError::Operation(OperationError::ConnectionLost) => ZoneError::ConnectionLost,
            OperateError::Operation(OperationError::Ended) => ZoneError::SubscriptionEnded,
            OperateError::Closed => ZoneError::Closed,
        })
    }
}

impl std::fmt::Debug for ZoneSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneSubscription").field("client_id", &self.control.handle.shared.client_id).finish()
    }
}

impl std::fmt::Debug for ZoneControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZoneControl").field("client_id", &self.handle.shared.client_id).finish()
    }
}

/// Checks what would be refused, at once and also without a connection, and turns it into what is sent.
fn checked(zones: Vec<ZoneSpec>, limits: &Limits) -> Result<Vec<wire::Zone>, ZoneError> {
    let mut ids = BTreeSet::new();
    let mut request_bytes = REQUEST_OVERHEAD_BYTES_MAX;
    let mut upsert = Vec::with_capacity(zones.len());
    for zone in &zones {
        check(zone, limits).map_err(ZoneError::Invalid)?;
        if !ids.insert(zone.id()) {
            let message = format!("zone {} is listed twice; give each zone a number of its own", zone.id());
            return Err(ZoneError::Invalid(Refusal::new(ErrorCode::DuplicateId, message)));
        }
        let zone = zone.to_wire();
        request_bytes += zone.encoded_len() + ZONE_OVERHEAD_BYTES_MAX;
        upsert.push(zone);
    }
    if zones.len() > limits.zones_per_session_max as usize || request_bytes > limits.frame_bytes_max as usize {
        let message = format!(
            "{} zones make a request of {request_bytes} bytes; at most {} zones (zones_per_session_max) and {} bytes \
             (frame_bytes_max) are permitted at once",
            zones.len(),
            limits.zones_per_session_max,
            limits.frame_bytes_max
        );
        return Err(ZoneError::Invalid(Refusal::new(ErrorCode::TooManyZones, message)));
    }
    Ok(upsert)
}

fn check(zone: &ZoneSpec, limits: &Limits) -> Result<(), Refusal> {
    if zone.id() == 0 {
        let range = format!("zone id is 0; give 1 to {}", HANDED_OVER_ZONE_ID_MIN - 1);
        return Err(Refusal::new(ErrorCode::InvalidArgument, range));
    }
    WorldName::check(zone.world())?;
    zone.kind_filter()
        .iter()
        .try_for_each(|kind| Kind::check(kind))
        .map_err(|error: NameError| Refusal::from(error))?;
    if zone.kind_filter().len() > limits.kinds_per_zone_max as usize {
        let message = format!(
            "zone {} has {} kinds; at most {} are permitted (kinds_per_zone_max)",
            zone.id(),
            zone.kind_filter().len(),
            limits.kinds_per_zone_max
        );
        return Err(Refusal::new(ErrorCode::TooManyZones, message));
    }
    limits.check_zone(&zone.zone())
}
