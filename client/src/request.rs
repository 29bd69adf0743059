//! Request and reply over topics.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use zonecast_protocol::AckLevel;

use crate::{
    config::bounded,
    error::{PublishError, RequestError, SubscribeError},
    event::Event,
    handle::{Handle, Inbox, InboxState, OperateError},
    publish::Publish,
    sync::locked,
    topics::{subscribed, unrouted},
};

/// What topics for replies begin with; behind it come the client's source and the request's number.
const INBOX_PREFIX: &str = "_inbox.";

/// The number of the request that a topic is for replies to, if it is one of this client's.
pub(crate) fn reply_number(topic: &str, source: u64) -> Option<u64> {
    let (owner, number) = topic.strip_prefix(INBOX_PREFIX)?.split_once('.')?;
    if u64::from_str_radix(owner, 16) != Ok(source) {
        return None;
    }
    number.parse().ok()
}

/// Awaits one reply, and stops when dropped.
struct Awaited<'a> {
    inbox: &'a Inbox,
    number: u64,
    reply: oneshot::Receiver<Event>,
}

impl<'a> Awaited<'a> {
    fn new(inbox: &'a Inbox) -> Result<Self, RequestError> {
        let number = inbox.next_number()?;
        let (requester, reply) = oneshot::channel();
        locked(&inbox.awaited).insert(number, requester);
        Ok(Self { inbox, number, reply })
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        locked(&self.inbox.awaited).remove(&self.number);
    }
}

/// Has the topics for replies subscribed, once for good. Who stops waiting leaves the answer to the next.
async fn listen(handle: &Handle, pattern: &str) -> Result<(), SubscribeError> {
    let mut state = handle.inbox_state.lock().await;
    if handle.shared.inbox.refused.swap(false, Relaxed) {
        *state = InboxState::NotAsked;
    }
    if matches!(*state, InboxState::NotAsked) {
        let asked = handle.ask(unrouted(handle, pattern)?, None).await;
        *state = InboxState::Asked(asked.map_err(|_| SubscribeError::Closed)?);
    }
    if let InboxState::Asked(answer) = &mut *state {
        let answer = answer.await.map_err(|_| OperateError::Closed);
        // What was refused is asked for again by the next request.
        *state = InboxState::NotAsked;
        subscribed(answer.and_then(|answer| answer.map_err(OperateError::Operation)))?;
        *state = InboxState::Ready;
    }
    Ok(())
}

/// Publishes a request and waits for the first reply.
pub(crate) async fn request(
    handle: &Arc<Handle>,
    publish: Publish<'_>,
    topic: &str,
    patience: Duration,
) -> Result<Event, RequestError> {
    let deadline = Instant::now() + bounded(patience);
    let exchange = async {
        let shared = &handle.shared;
        let inbox = format!("{INBOX_PREFIX}{:016x}", shared.source);
        let pattern = format!("{inbox}.>");
        listen(handle, &pattern).await?;
        let mut awaited = Awaited::new(&shared.inbox)?;
        let publish = publish.reply_to(format!("{inbox}.{}", awaited.number));
        let mut receipt = handle.publish_with_ack(&publish, AckLevel::Routed).await?;
        // A request whose reply nobody awaits any more must not be carried out after the next reconnect.
        let _taken_back = handle.taken_back(receipt.id());
        let reply = &mut awaited.reply;
        let closed = |_| RequestError::Publish(PublishError::Closed);
        tokio::select! {
            biased;
            // The reply may overtake the receipt: they come on different streams.
            reply = &mut *reply => return reply.map_err(closed),
            receipt = &mut receipt => {
                if receipt?.matched == 0 {
                    return Err(RequestError::NoResponder { topic: topic.to_owned() });
                }
            }
        }
        reply.await.map_err(closed)
    };
    timeout_at(deadline, exchange).await.unwrap_or(Err(RequestError::TimedOut { waited: patience }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_replies_have_a_number() {
        assert_eq!(reply_number("_inbox.00000000000000ff.12", 0xff), Some(12));
        for other in ["_inbox.00000000000000ff", "_inbox.00000000000000fe.12", "_inbox.00000000000000ff.x", "a.b"] {
            assert_eq!(reply_number(other, 0xff), None, "{other}");
        }
    }
}
