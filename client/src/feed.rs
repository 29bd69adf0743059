//! The reading end of a subscription, whatever it is for.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::{
    event::Event,
    intake::Part,
    mailbox::{Mailbox, Weigh},
};

/// What a subscription yields.
pub(crate) trait Item: Weigh {
    /// The event in it.
    fn as_event(&self) -> Option<&Event>;
    /// As `as_event`.
    fn into_event(self) -> Option<Event>;
}

/// Takes items out of a mailbox, and says of each event that its publisher waits for when it is done.
pub(crate) struct Feed<T: Item> {
    mailbox: Arc<Mailbox<T>>,
    taken: VecDeque<T>,
    explicit: bool,
    /// The event that the application has, and says nothing about by itself.
    in_hand: Option<Arc<Part>>,
}

impl<T: Item> Feed<T> {
    pub(crate) fn new(mailbox: Arc<Mailbox<T>>) -> Self {
        Self { mailbox, taken: VecDeque::new(), explicit: false, in_hand: None }
    }

    /// From the next item on, events are done only when the application says so.
    pub(crate) fn make_explicit(&mut self) {
        self.explicit = true;
    }

    /// The next item; `None` when the client is closed. Who asks is done with the event before.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(part) = mem::take(&mut self.in_hand) {
            part.done();
        }
        let item = ready!(self.mailbox.poll_next(&mut self.taken, cx));
        if !self.explicit {
            self.in_hand = item.as_ref().and_then(T::as_event).and_then(Event::part).cloned();
        }
        Poll::Ready(item)
    }

    pub(crate) async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, passing over everything else.
    pub(crate) async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next().await?.into_event() {
                return Some(event);
            }
        }
    }
}

impl<T: Item> Drop for Feed<T> {
    /// What nobody will read is rejected with it.
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}
