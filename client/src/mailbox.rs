//! A bounded queue from the delivery reader to one subscription, filled and emptied in batches.
//!
//! Both sides take the lock once per batch, not once per event: the reader of the network pushes what one read brought,
//! the subscription swaps the whole queue for its own empty one and hands the items out without locking.

use std::{
    collections::VecDeque,
    mem,
    sync::Mutex,
    task::{Context, Poll, Waker, ready},
};

use tokio::sync::Notify;

use crate::sync::locked;

/// What an item counts against the bound in bytes.
pub(crate) trait Weigh {
    fn weight_bytes(&self) -> usize;
}

/// Items in their order, and what they weigh together.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    items: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T: Weigh> Batch<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn push(&mut self, item: T) {
        self.bytes += item.weight_bytes();
        self.items.push_back(item);
    }

    #[cfg(test)]
    pub(crate) fn into_items(self) -> VecDeque<T> {
        self.items
    }

    fn clear(&mut self) {
        self.items.clear();
        self.bytes = 0;
    }

    /// Moves everything of another one behind what is there.
    fn append(&mut self, other: &mut Self) {
        if self.items.is_empty() {
            // Most of the time: the reader keeps up. Then nothing is moved at all.
            mem::swap(self, other);
        } else {
            self.items.append(&mut other.items);
            self.bytes += mem::take(&mut other.bytes);
        }
    }

    fn move_first(&mut self, other: &mut Self) {
        if let Some(item) = other.items.pop_front() {
            other.bytes -= item.weight_bytes();
            self.push(item);
        }
    }
}

/// Bounds of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MailboxBounds {
    /// Most items.
    pub(crate) items_max: usize,
    /// Most bytes; one item is taken whatever its size.
    pub(crate) bytes_max: usize,
}

/// How far beyond `items_max` notices may go before their sender must wait. Far, because it also brings the answers to what
/// a reader asks for, who reads nothing meanwhile.
const NOTICES_BEYOND_MAX: usize = 16_384;

pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    /// Tells the pusher that the queue was emptied or the receiver has gone.
    emptied: Notify,
    /// Tells the sender of notices the same.
    relieved: Notify,
    bounds: MailboxBounds,
}

struct State<T> {
    waiting: Batch<T>,
    receiver: Option<Waker>,
    /// No more will be pushed; what is queued can still be read.
    ended: bool,
    /// Nobody will read.
    abandoned: bool,
}

impl<T: Weigh> Mailbox<T> {
    pub(crate) fn new(bounds: MailboxBounds) -> Self {
        let state = State { waiting: Batch::default(), receiver: None, ended: false, abandoned: false };
        Self { state: Mutex::new(state), emptied: Notify::new(), relieved: Notify::new(), bounds }
    }

    /// Moves all of `batch` into the queue, waiting for room as often as needed. Drops it when nobody will read.
    ///
    /// There is one pusher, so waiting cannot reorder.
    pub(crate) async fn push_all(&self, batch: &mut Batch<T>) {
        while !self.push_some(batch) {
            self.emptied.notified().await;
        }
    }

    /// Whether the batch is used up.
    fn push_some(&self, batch: &mut Batch<T>) -> bool {
        let mut state = locked(&self.state);
        if state.abandoned || state.ended {
            batch.clear();
            return true;
        }
        if state.waiting.items.len() + batch.items.len() <= self.bounds.items_max
            && state.waiting.bytes + batch.bytes <= self.bounds.bytes_max
        {
            state.waiting.append(batch);
        }
        while let Some(item) = batch.items.front() {
            let waiting = &mut state.waiting;
            let room = waiting.items.len() < self.bounds.items_max
                && waiting.bytes + item.weight_bytes() <= self.bounds.bytes_max;
            if !room && !waiting.is_empty() {
                break;
            }
            waiting.move_first(batch);
        }
        let receiver = if state.waiting.is_empty() { None } else { state.receiver.take() };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        batch.is_empty()
    }

    /// Puts a notice in at once. None is lost: who sends many waits for [`room_for_notices`](Self::room_for_notices) now and
    /// then.
    pub(crate) fn push_notice(&self, item: T) {
        let mut state = locked(&self.state);
        if state.abandoned || state.ended {
            return;
        }
        state.waiting.push(item);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Waits until not too many notices wait. For one sender at a time.
    pub(crate) async fn room_for_notices(&self) {
        while locked(&self.state).waiting.items.len() >= self.bounds.items_max.saturating_add(NOTICES_BEYOND_MAX) {
            self.relieved.notified().await;
        }
    }

    fn tell_pushers(&self) {
        self.emptied.notify_one();
        self.relieved.notify_one();
    }

    /// No more will come; the receiver reads what is there and then the end.
    pub(crate) fn end(&self) {
        let mut state = locked(&self.state);
        state.ended = true;
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        self.tell_pushers();
    }

    /// Nobody will read any more: empties the queue and lets the pusher go on.
    pub(crate) fn abandon(&self) {
        let mut state = locked(&self.state);
        state.abandoned = true;
        let items = mem::take(&mut state.waiting);
        drop(state);
        drop(items);
        self.tell_pushers();
    }

    /// The next item, from `taken` or, when that is empty, from the queue.
    ///
    /// `taken` belongs to the one receiver and holds at most one queue full.
    #[inline]
    pub(crate) fn poll_next(&self, taken: &mut VecDeque<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = taken.pop_front() {
            return Poll::Ready(Some(item));
        }
        // Yields now and then, so that a stream that never runs dry does not keep its thread from other tasks.
        let progress = ready!(tokio::task::coop::poll_proceed(cx));
        let mut state = locked(&self.state);
        if state.waiting.is_empty() {
            if state.ended {
                return Poll::Ready(None);
            }
            if !state.receiver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                state.receiver = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        mem::swap(&mut state.waiting.items, taken);
        // It is empty, and is filled from its beginning again: memory that was used a moment ago, not the next in the ring.
        state.waiting.clear();
        drop(state);
        self.tell_pushers();
        progress.made_progress();
        Poll::Ready(taken.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, ops::Range, sync::Arc};

    use super::*;

    impl Weigh for u32 {
        fn weight_bytes(&self) -> usize {
            4
        }
    }

    fn mailbox(items_max: usize, bytes_max: usize) -> Arc<Mailbox<u32>> {
        Arc::new(Mailbox::new(MailboxBounds { items_max, bytes_max }))
    }

    fn batch(items: Range<u32>) -> Batch<u32> {
        let mut batch = Batch::default();
        items.for_each(|item| batch.push(item));
        batch
    }

    async fn next(mailbox: &Mailbox<u32>, taken: &mut VecDeque<u32>) -> Option<u32> {
        poll_fn(|cx| mailbox.poll_next(taken, cx)).await
    }

    #[tokio::test]
    async fn everything_arrives_in_order_through_a_narrow_queue() {
        for (items_max, bytes_max) in [(1, 1000), (3, 1000), (1000, 4), (1000, 9), (1000, 0)] {
            let mailbox = mailbox(items_max, bytes_max);
            let pusher = tokio::spawn({
                let mailbox = mailbox.clone();
                async move {
                    for start in (0..1000).step_by(10) {
                        mailbox.push_all(&mut batch(start..start + 10)).await;
                    }
                    mailbox.end();
                }
            });
            let (mut taken, mut received) = (VecDeque::new(), Vec::new());
            while let Some(item) = next(&mailbox, &mut taken).await {
                received.push(item);
            }
            assert_eq!(received, (0..1000).collect::<Vec<_>>());
            pusher.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_receiver_that_goes_lets_the_pusher_go_on() {
        let mailbox = mailbox(1, 100);
        let pusher = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.push_all(&mut batch(0..100)).await }
        });
        assert_eq!(next(&mailbox, &mut VecDeque::new()).await, Some(0));
        mailbox.abandon();
        pusher.await.unwrap();
    }

    #[tokio::test]
    async fn notices_pass_a_full_queue_and_their_sender_waits_beyond_a_bound() {
        let mailbox = mailbox(1, 1);
        for n in 0..=16_384 {
            mailbox.room_for_notices().await;
            mailbox.push_notice(n);
        }
        // One too many is not lost either.
        mailbox.push_notice(16_385);
        let waiting = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.room_for_notices().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let mut taken = VecDeque::new();
        for n in 0..=16_385 {
            assert_eq!(next(&mailbox, &mut taken).await, Some(n));
        }
        waiting.await.unwrap();
    }
}
