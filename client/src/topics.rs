//! Topic subscriptions.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use zonecast_protocol::{QueueGroup, TopicPattern, wire};

use crate::{
    error::SubscribeError,
    event::Event,
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
    mailbox: Arc<Mailbox<TopicItem>>,
    taken: VecDeque<TopicItem>,
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
        let route = TopicRoute { id, pattern: pattern.clone(), queue_group, mailbox: mailbox.clone() };
        if let Err(other) = handle.shared.routes.add_topic(route) {
            let (pattern, other) = (pattern.to_string(), other.to_string());
            return Err(SubscribeError::OverlapsQueueGroup { pattern, other });
        }
        // From here on a drop cleans up, also when the caller stops waiting.
        let mut subscription = Self { handle, id, pattern, mailbox, taken: VecDeque::new() };
        if let Err(error) = subscribe(&subscription.handle, topic).await {
            subscription.id = 0;
            subscription.handle.shared.routes.remove_topic(id);
            return Err(error);
        }
        Ok(subscription)
    }

    /// The next item; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<TopicItem> {
        poll_fn(|cx| self.mailbox.poll_next(&mut self.taken, cx)).await
    }

    /// The next event, passing over everything else: for applications that do not mind what they miss.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next().await?.into_event() {
                return Some(event);
            }
        }
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
    match handle.operate(Operation::Subscribe(topic), None).await {
        Ok(_epoch) => Ok(()),
        Err(OperateError::Operation(OperationError::Refused(refusal))) => Err(SubscribeError::Refused(refusal)),
        // Neither can befall a subscription that is still waited for; closed is what it amounts to.
        Err(OperateError::Operation(OperationError::ConnectionLost | OperationError::Ended) | OperateError::Closed) => {
            Err(SubscribeError::Closed)
        }
    }
}

/// Subscribes for good, to a pattern whose events go to no [`TopicSubscription`].
pub(crate) async fn subscribe_unrouted(handle: &Handle, pattern: &str) -> Result<(), SubscribeError> {
    let pattern = TopicPattern::new(pattern)?;
    subscribe(handle, topic(handle.next_topic_id(), &pattern, None)).await
}

impl Stream for TopicSubscription {
    type Item = TopicItem;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TopicItem>> {
        let this = &mut *self;
        this.mailbox.poll_next(&mut this.taken, cx)
    }
}

impl Drop for TopicSubscription {
    fn drop(&mut self) {
        // 0 is no number of a subscription: the broker has refused this one, so there is nothing to give up.
        if self.id != 0 {
            self.handle.shared.routes.remove_topic(self.id);
            self.mailbox.abandon();
            self.handle.give_up(Operation::Unsubscribe(self.id));
        }
    }
}

impl fmt::Debug for TopicSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSubscription").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}
