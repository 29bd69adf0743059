//! The client: the handle by which an application does everything.

use std::{fmt, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::{sync::oneshot, time::timeout};
use zonecast_protocol::{AckLevel, Limits};

use crate::{
    config::ClientConfig,
    connection::{Command, Driver, commands},
    error::{CloseError, ConnectError, LinkError, PublishError, RequestError, SubscribeError, ZoneError},
    event::{Event, EventId},
    handle::{Handle, Shared},
    item::ZoneSpec,
    publish::{Payload, Publish},
    publisher::{PendingReceipt, Receipt, Refusals, now_us},
    request,
    state::{ClosedReason, ConnectionState, ConnectionStates},
    sync::locked,
    topics::TopicSubscription,
    zones::ZoneSubscription,
};

/// A client of a zonecast broker. Cheap to clone; clones are the same client.
///
/// Behind it a task keeps one connection: it connects again when the connection breaks (with a random, growing wait, to
/// the given brokers in turn), renews all subscriptions, and sends what has been queued. It ends when the last clone and
/// the last subscription (or [`ZoneControl`](crate::ZoneControl)) are dropped: while it is connected, after what is queued
/// has been sent and the broker was told goodbye, if the runtime lives so long; [`close`](Self::close) waits for that. It
/// also ends by itself where connecting again would be wrong ([`LinkError::is_fatal`]), as when a newer run of the client has
/// taken its place: then subscriptions yield `None`, publishes fail, and [`states`](Self::states) says why.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// How a client has fared since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClientStats {
    /// Connections made, counting the first.
    pub connections: u64,
    /// Events received.
    pub delivered: u64,
    /// Deliveries that will never come, as shown to subscriptions by gaps.
    pub missing: u64,
    /// Events of those that this version cannot read.
    pub undecodable: u64,
    /// Events received for which there was no subscription any more, and replies that came too late.
    pub unclaimed: u64,
    /// Publishes refused by the broker, whether an acknowledgement was asked for or not.
    pub refused: u64,
    /// Connections on which the session before went on.
    pub resumed: u64,
    /// Events among those received that had been received before, and were not handed on again.
    pub duplicates: u64,
    /// Values of class state among the events received that came behind a later value of their key, and were not handed on.
    pub outdated: u64,
    /// Events of class transient that were never sent, because newer ones came while there was no connection.
    pub dropped_unsent: u64,
}

impl Client {
    /// Connects to the first of the brokers that answers, and returns when it has.
    ///
    /// Must be called within a tokio runtime, on which the client's tasks then run.
    ///
    /// # Errors
    /// The configuration is not usable, no broker answers within
    /// [`connect_timeout`](ClientConfig::connect_timeout), or they refuse this client.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        let settings = config.validate(now_us())?;
        let waited = settings.timing.connect_timeout;
        let shared = Arc::new(Shared::new(&settings));
        let (commands, receiver) = commands();
        let (first, outcome) = oneshot::channel();
        let client = Self { handle: Arc::new(Handle::new(&settings, shared.clone(), commands)) };
        // Whoever stops waiting drops the only handle, which ends the driver.
        tokio::spawn(Driver::new(settings, shared.clone(), receiver, first).run());
        if let Ok(Ok(outcome)) = timeout(waited, outcome).await {
            return outcome.map(|()| client);
        }
        let last = locked(&shared.last_failure).take().unwrap_or(LinkError::NoAnswer { waited });
        Err(ConnectError::Unreachable { waited, last })
    }

    /// The client's id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.handle.shared.client_id.as_str()
    }

    /// The number of this run of the client, which its events bear as [`Event::source`]. It stays the same over
    /// reconnects.
    #[must_use]
    pub fn source(&self) -> u64 {
        self.handle.shared.source
    }

    /// What the broker permits, as it said last.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.handle.shared.limits()
    }

    /// Watches the connection.
    #[must_use]
    pub fn states(&self) -> ConnectionStates {
        ConnectionStates::new(self.handle.shared.states.subscribe())
    }

    /// Counts what has happened so far.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        let counters = &self.handle.shared.counters;
        ClientStats {
            connections: counters.connections.load(Relaxed),
            delivered: counters.delivered.load(Relaxed),
            missing: counters.missing.load(Relaxed),
            undecodable: counters.undecodable.load(Relaxed),
            unclaimed: counters.unclaimed.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            resumed: counters.resumed.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            outdated: counters.outdated.load(Relaxed),
            dropped_unsent: counters.dropped_unsent.load(Relaxed),
        }
    }

    /// Subscribes to everything that touches one of these zones, and returns when that is in force.
    ///
    /// A client has one zone subscription, whose zones can be changed. Without zones it still receives what other
    /// clients hand over; a client to which zones are handed over should have one. Waits while there is no connection, as
    /// long as it takes: wrap it in a timeout where that matters. Who stops waiting gives the subscription up.
    ///
    /// # Errors
    /// The zones are not valid, the broker refuses them, the client has a zone subscription already, or it is closed.
    pub async fn subscribe_zones(
        &self,
        zones: impl IntoIterator<Item = ZoneSpec>,
    ) -> Result<ZoneSubscription, ZoneError> {
        ZoneSubscription::open(self.handle.clone(), zones.into_iter().collect()).await
    }

    /// Subscribes to the topics that match a pattern (`users.*`, `users.>`), and returns when that is in force.
    ///
    /// Events reach every subscription of the client that matches. Waits while there is no connection, as
    /// [`subscribe_zones`](Self::subscribe_zones).
    ///
    /// # Errors
    /// The pattern is not valid or overlaps with one in a queue group, the broker refuses it, or the client is closed.
    pub async fn subscribe(&self, pattern: &str) -> Result<TopicSubscription, SubscribeError> {
        TopicSubscription::open(self.handle.clone(), pattern, None).await
    }

    /// As [`subscribe`](Self::subscribe), but of all subscriptions with the same pattern and queue group (1 to 64 bytes
    /// of `[A-Za-z0-9_.-]`), at whichever client, one receives each event: for sharing work.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe). Within one client a pattern in a queue group must not overlap with another
    /// pattern or group; use a second client for that.
    pub async fn queue_subscribe(&self, pattern: &str, queue_group: &str) -> Result<TopicSubscription, SubscribeError> {
        TopicSubscription::open(self.handle.clone(), pattern, Some(queue_group)).await
    }

    /// Queues an event on its lane and returns its name, without waiting for the broker.
    ///
    /// Waits while the lane has no room: while the connection is away, or the broker or a receiver holds the lane back.
    /// Events of one lane that one task publishes go out in that order. An event of class reliable or state is kept until
    /// the broker has routed it, and sent again after a lost connection, for as long as that takes: its age shows at
    /// [`Event::published_at_us`]. One of class transient that is on its way when the connection breaks is lost, and while
    /// there is none only the newest 64 KiB of each lane wait; what that drops is counted ([`ClientStats::dropped_unsent`]).
    /// Should the broker refuse it, that shows at [`refusals`](Self::refusals).
    ///
    /// Do not wait for it in the loop that reads a subscription: two servers that answer each other's events there can
    /// come to wait for each other, and the broker ends both as too slow. Publish from another task, or use
    /// [`try_publish`](Self::try_publish).
    ///
    /// # Errors
    /// The event is not valid, there is no room in time, or the client is closed. It is not sent then.
    pub async fn publish(&self, publish: Publish<'_>) -> Result<EventId, PublishError> {
        self.handle.publish(&publish).await
    }

    /// As [`publish`](Self::publish), without waiting: for loops that must not stand still.
    ///
    /// # Errors
    /// [`PublishError::LaneFull`] instead of waiting.
    pub fn try_publish(&self, publish: &Publish<'_>) -> Result<EventId, PublishError> {
        self.handle.try_publish(publish)
    }

    /// Publishes an event and waits until the broker has routed it to all whom it concerns.
    ///
    /// The event is kept and, after a lost connection, sent again until the broker has answered, for as long as that
    /// takes. What is routed is lost if the broker's process dies before it has left it, or the receiver does. Who stops
    /// waiting, by dropping the future, does not take the event back.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`PublishError::Refused`] by the broker. Of class transient, which is not sent
    /// twice, also [`PublishError::ConnectionLost`]: then it may or may not have been routed.
    pub async fn publish_acked(&self, publish: Publish<'_>) -> Result<Receipt, PublishError> {
        self.publish_with_ack(publish).await?.await
    }

    /// As [`publish_acked`](Self::publish_acked) in two steps: returns when the event is queued, so that many
    /// acknowledgements can be under way at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); what the broker says comes with the receipt.
    pub async fn publish_with_ack(&self, publish: Publish<'_>) -> Result<PendingReceipt, PublishError> {
        self.handle.publish_with_ack(&publish, AckLevel::Routed).await
    }

    /// Publishes an event of class reliable and waits until everyone whom it concerns has processed it: each session
    /// that it was routed to has said so after its application was done ([`Event::done`]).
    ///
    /// A success is never false, whatever connection or broker breaks on the way. An error says why it is not known that
    /// all have processed it; some may have. A success with [`matched`](Receipt::matched) 0 says that there was nobody;
    /// [`Publish::require_match`] makes that an error.
    ///
    /// Do not wait for it in the loop that reads a subscription which the event itself reaches: it is not processed as
    /// long as that loop waits. Publish from another task, or with [`Publish::exclude_self`].
    ///
    /// # Errors
    /// As [`publish`](Self::publish); [`PublishError::Refused`] by the broker; [`PublishError::Unprocessed`] when a
    /// receiver was lost or rejected it; [`PublishError::Expired`] when it took longer than
    /// [`Publish::expires_in`], at the latest 5 s after that also without a broker.
    pub async fn publish_processed(&self, publish: Publish<'_>) -> Result<Receipt, PublishError> {
        self.publish_with_processed_ack(publish).await?.await
    }

    /// As [`publish_processed`](Self::publish_processed) in two steps, as [`publish_with_ack`](Self::publish_with_ack).
    ///
    /// # Errors
    /// As [`publish`](Self::publish); what the broker says comes with the receipt.
    pub async fn publish_with_processed_ack(&self, publish: Publish<'_>) -> Result<PendingReceipt, PublishError> {
        self.handle.publish_with_ack(&publish, AckLevel::Processed).await
    }

    /// Refusals of publishes without acknowledgement, or whose receipt was dropped, from now on. Also logged, and counted in [`ClientStats::refused`].
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals::new(self.handle.shared.listen_to_refusals())
    }

    /// Asks whoever listens to a topic, and waits for the first reply.
    ///
    /// Who stops waiting, after `patience` or by dropping the future, takes the request back: it is not sent any more if it
    /// was not sent, nor again after a lost connection.
    ///
    /// # Errors
    /// [`RequestError::NoResponder`] at once when nobody listens; no reply within `patience`; or the request could not
    /// be published.
    pub async fn request<'a>(
        &self,
        topic: &'a str,
        payload: impl Into<Payload<'a>>,
        patience: Duration,
    ) -> Result<Event, RequestError> {
        let publish = Publish::to_topic(topic).payload(payload);
        request::request(&self.handle, publish, topic, patience).await
    }

    /// Answers a request; returns when the answer is queued. Not in the loop that reads the requests: see
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// The event asks for no reply, or as [`publish`](Self::publish).
    pub async fn reply<'a>(
        &self,
        request: &'a Event,
        payload: impl Into<Payload<'a>>,
    ) -> Result<EventId, PublishError> {
        let topic = request.reply_to().ok_or(PublishError::NoReplyTopic)?;
        self.publish(Publish::to_topic(topic).payload(payload)).await
    }

    /// Ends the client in order: sends what is queued, waits for outstanding acknowledgements, says goodbye, and waits
    /// until the broker closes; at most for [`close_timeout`](ClientConfig::close_timeout). All clones and
    /// subscriptions end with it. Without a connection it ends at once. Changes of zones and topics that wait are given up.
    ///
    /// `Ok` means that everything was handed to the network. Only an acknowledgement says that the broker routed an
    /// event: a receiver that is too slow may hold the broker up for longer than the timeout lasts.
    ///
    /// # Errors
    /// Publishes were left that could not be sent; also when the client had ended by itself. [`CloseError::Aborted`] when
    /// its task was stopped, with its runtime, before it could take leave.
    pub async fn close(&self) -> Result<(), CloseError> {
        let (done, closed) = oneshot::channel();
        // Either fails when the client has ended already.
        if self.handle.commands.send(Command::Close(done)).is_ok() {
            let _ = closed.await;
        }
        let publishes = self.handle.shared.unsent.load(Relaxed);
        let state = self.states().current();
        match publishes {
            _ if matches!(state, ConnectionState::Closed { reason: ClosedReason::Aborted }) => {
                Err(CloseError::Aborted { publishes })
            }
            0 => Ok(()),
            publishes => Err(CloseError::Unsent { publishes }),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.client_id())
            .field("source", &format_args!("{:016x}", self.source()))
            .finish_non_exhaustive()
    }
}
