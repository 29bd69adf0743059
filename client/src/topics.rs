//! Topic subscriptions.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use zonecast_protocol::{QueueGroup, TopicPattern, wire};

use crate::{
    error::SubscribeError,
    event::Event,
    feed::Feed,
    handle::{Handle, OperateError},
    item::TopicItem,
    mailbox::Mailbox,
    routes::TopicRoute,
    session::{Operation, OperationError},
};

/// The events on topics that match a pattern. See [`Client::subscribe`](crate::Client::subscribe).
///
/// It is a [`Stream`] of [`TopicItem`]s and never fails: lost connections are made again, and shown as
/// [`TopicItem::Interrupted`]. It ends when the client is closed. Dropping it unsubscribes.
///
/// Read it steadily, as said at [`ZoneSubscription`](crate::ZoneSubscription).
pub struct TopicSubscription {
    handle: Arc<Handle>,
    id: u32,
    pattern: TopicPattern,
    feed: Feed<TopicItem>,
}

impl TopicSubscription {
    pub(crate) async fn open(
        handle: Arc<Handle>,
        pattern: &str,
        queue_group: Option<&str>,
    ) -> Result<Self, SubscribeError> {
        let pattern = TopicPattern::new(pattern)?;
        let queue_group = queue_group.map(QueueGroup::new).transpose()?;
        let mailbox = Arc::new(Mailbox::new(handle.shared.queues.deliveries));
        let id = handle.next_topic_id();
        let topic = topic(id, &pattern, queue_group.as_ref());
        let feed = Feed::new(mailbox.clone());
        let route = TopicRoute { id, pattern: pattern.clone(), queue_group, mailbox };
        if let Err(other) = handle.shared.routes.add_topic(route) {
            let (pattern, other) = (pattern.to_string(), other.to_string());
            return Err(SubscribeError::OverlapsQueueGroup { pattern, other });
        }
        // From here on a drop cleans up, also when the caller stops waiting.
        let mut subscription = Self { handle, id, pattern, feed };
        if let Err(error) = subscribe(&subscription.handle, topic).await {
            subscription.id = 0;
            subscription.handle.shared.routes.remove_topic(id);
            return Err(error);
        }
        Ok(subscription)
    }

    /// The next item; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<TopicItem> {
        self.feed.next().await
    }

    /// The next event, passing over everything else: for applications that do not mind what they miss.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.feed.next_event().await
    }

    /// As [`ZoneSubscription::explicit`](crate::ZoneSubscription::explicit).
    #[must_use]
    pub fn explicit(mut self) -> Self {
        self.feed.make_explicit();
        self
    }

    /// The pattern.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.pattern.as_str()
    }
}

fn topic(id: u32, pattern: &TopicPattern, queue_group: Option<&QueueGroup>) -> wire::TopicSubscription {
    let queue_group = queue_group.map(ToString::to_string).unwrap_or_default();
    wire::TopicSubscription { id, pattern: pattern.to_string(), queue_group }
}

async fn subscribe(handle: &Handle, topic: wire::TopicSubscription) -> Result<(), SubscribeError> {
    subscribed(handle.operate(Operation::Subscribe(topic), None).await)
}

/// What the answer to a subscription means.
pub(crate) fn subscribed(answer: Result<u64, OperateError>) -> Result<(), SubscribeError> {
    match answer {
        Ok(_epoch) => Ok(()),
        Err(OperateError::Operation(OperationError::Refused(refusal))) => Err(SubscribeError::Refused(refusal)),
        // Neither can befall a subscription that is still waited for; closed is what it amounts to.
        Err(OperateError::Operation(OperationError::ConnectionLost | OperationError::Ended) | OperateError::Closed) => {
            Err(SubscribeError::Closed)
        }
    }
}

/// A subscription for good, to a pattern whose events go to no [`TopicSubscription`].
pub(crate) fn unrouted(handle: &Handle, pattern: &str) -> Result<Operation, SubscribeError> {
    let pattern = TopicPattern::new(pattern)?;
    Ok(Operation::Subscribe(topic(handle.next_topic_id(), &pattern, None)))
}

impl Stream for TopicSubscription {
    type Item = TopicItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TopicItem>> {
        self.feed.poll_next(cx)
    }
}

impl Drop for TopicSubscription {
    fn drop(&mut self) {
        // 0 is no number of a subscription: the broker has refused this one, so there is nothing to give up.
        if self.id != 0 {
            self.handle.shared.routes.remove_topic(self.id);
            self.handle.give_up(Operation::Unsubscribe(self.id));
        }
    }
}

impl fmt::Debug for TopicSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSubscription").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}
