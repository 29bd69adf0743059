//! A session as its worker holds it: what waits for it, and how its tasks are woken.

use std::{
    cell::{Cell, Ref, RefCell},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use zonecast_core::{OutboundEvent, Outbox, OutboxLimits, Pushed, SessionId, SessionRules};
use zonecast_protocol::{
    ClientId,
    codec::encode_server_frame,
    wire::{ErrorCode, server_frame},
};

/// Bytes of answers that wait on the control stream before the session's own requests and publishes wait.
const CONTROL_BYTES_SOFT: usize = 256 << 10;

/// Whether a session can take more, readable from every worker.
///
/// Only the session's own worker writes it. Publishers of reliable events wait on it, whichever worker they are on.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    over: AtomicBool,
    relieved: Notify,
}

impl Gauge {
    /// Whether the outbox is over its soft mark.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Waits until it is not. A session that never gets there is ended by its worker, which relieves it too.
    pub(crate) async fn relieved(&self) {
        loop {
            let relieved = self.relieved.notified();
            if !self.is_over() {
                return;
            }
            relieved.await;
        }
    }

    fn set(&self, over: bool) {
        if over != self.over.load(Ordering::Relaxed) {
            self.over.store(over, Ordering::Release);
            if !over {
                self.relieved.notify_waiters();
            }
        }
    }
}

/// One session, shared by the tasks of its connection. Lives on one thread.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) client: ClientId,
    pub(crate) rules: RefCell<SessionRules>,
    pub(crate) gauge: Arc<Gauge>,
    outbox: RefCell<Outbox>,
    outbox_filled: Notify,
    outbox_drained: Notify,
    control: RefCell<BytesMut>,
    control_filled: Notify,
    control_drained: Notify,
    /// Set once: why the session ends.
    end: RefCell<Option<(ErrorCode, String)>>,
    end_set: Notify,
    /// Set when nothing more is read from the client.
    stopping: Cell<bool>,
    stop_set: Notify,
    /// Set when nothing more will be queued for the client.
    closing: Cell<bool>,
    /// Set with the end of the session's interest: from then on no zone may be handed over to it.
    pub(crate) interest_ended: Cell<bool>,
    /// Since when the outbox is over its soft mark without a break.
    over_since: Cell<Option<Instant>>,
    /// Dropped when nothing is matched for this session any more.
    awaiting_end: RefCell<Vec<oneshot::Sender<Infallible>>>,
}

impl Session {
    pub(crate) fn new(id: SessionId, client: ClientId, rules: SessionRules, limits: OutboxLimits) -> Self {
        Self {
            id,
            client,
            rules: RefCell::new(rules),
            gauge: Arc::default(),
            outbox: RefCell::new(Outbox::new(limits)),
            outbox_filled: Notify::new(),
            outbox_drained: Notify::new(),
            control: RefCell::default(),
            control_filled: Notify::new(),
            control_drained: Notify::new(),
            end: RefCell::default(),
            end_set: Notify::new(),
            stopping: Cell::new(false),
            stop_set: Notify::new(),
            closing: Cell::new(false),
            interest_ended: Cell::new(false),
            over_since: Cell::new(None),
            awaiting_end: RefCell::default(),
        }
    }

    /// Queues a delivery.
    pub(crate) fn deliver(&self, event: OutboundEvent) -> Pushed {
        let pushed = self.outbox.borrow_mut().push(event);
        self.set_gauge();
        if pushed == Pushed::Overflow {
            self.end(ErrorCode::SlowConsumer, "the session's queue is full; read faster or subscribe to less");
        }
        self.outbox_filled.notify_one();
        pushed
    }

    fn set_gauge(&self) {
        let over = self.outbox.borrow().is_over_soft_mark();
        self.gauge.set(over && !self.closing.get());
        if !over {
            self.over_since.set(None);
        } else if self.over_since.get().is_none() {
            self.over_since.set(Some(Instant::now()));
        }
    }

    /// For how long the outbox has been over its soft mark without a break.
    pub(crate) fn over_for(&self) -> Duration {
        self.over_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Looks at the outbox.
    pub(crate) fn outbox(&self) -> Ref<'_, Outbox> {
        self.outbox.borrow()
    }

    /// Takes from the outbox, and wakes who waits for that.
    pub(crate) fn take_from_outbox<T>(&self, take: impl FnOnce(&mut Outbox) -> T) -> T {
        let taken = take(&mut self.outbox.borrow_mut());
        self.set_gauge();
        if self.outbox.borrow().is_empty() {
            self.outbox_drained.notify_waiters();
        }
        taken
    }

    /// Waits until the outbox has something to write; false when it has not and nothing more will come.
    pub(crate) async fn outbox_filled(&self) -> bool {
        while self.outbox.borrow().is_empty() {
            if self.closing.get() {
                return false;
            }
            self.outbox_filled.notified().await;
        }
        true
    }

    /// Waits until the outbox is empty.
    pub(crate) async fn outbox_drained(&self) {
        loop {
            let drained = self.outbox_drained.notified();
            if self.outbox.borrow().is_empty() {
                return;
            }
            drained.await;
        }
    }

    /// Queues a frame for the control stream.
    pub(crate) fn answer(&self, frame: server_frame::Frame) {
        encode_server_frame(frame, &mut self.control.borrow_mut());
        self.control_filled.notify_one();
    }

    /// Whether more answers wait than a client that reads them would leave.
    pub(crate) fn answers_are_many(&self) -> bool {
        self.control.borrow().len() >= CONTROL_BYTES_SOFT
    }

    /// Waits while that is so, unless nothing more is read from the client anyway.
    pub(crate) async fn room_for_answers(&self) {
        let room = async {
            loop {
                let drained = self.control_drained.notified();
                if !self.answers_are_many() {
                    return;
                }
                drained.await;
            }
        };
        tokio::select! {
            biased;
            () = room => {}
            () = self.reading_stopped() => {}
        }
    }

    /// Lets the tasks that read from the client finish the step they are at, and then read no more.
    pub(crate) fn stop_reading(&self) {
        self.stopping.set(true);
        self.stop_set.notify_waiters();
    }

    /// Waits until nothing more is to be read from the client.
    pub(crate) async fn reading_stopped(&self) {
        let stopped = self.stop_set.notified();
        if !self.stopping.get() {
            stopped.await;
        }
    }

    /// Waits for answers to write; `None` when no more will come.
    pub(crate) async fn next_answers(&self) -> Option<BytesMut> {
        loop {
            let waiting = self.control.borrow_mut().split();
            if !waiting.is_empty() {
                self.control_drained.notify_waiters();
                return Some(waiting);
            }
            if self.closing.get() {
                return None;
            }
            self.control_filled.notified().await;
        }
    }

    /// Asks for the session's end. The first reason counts.
    pub(crate) fn end(&self, code: ErrorCode, reason: &str) {
        let mut end = self.end.borrow_mut();
        if end.is_none() {
            *end = Some((code, reason.to_owned()));
            self.end_set.notify_one();
        }
    }

    /// Waits until the session's end is asked for.
    pub(crate) async fn ended(&self) -> (ErrorCode, String) {
        loop {
            let end = self.end.borrow().clone();
            match end {
                Some(end) => return end,
                None => self.end_set.notified().await,
            }
        }
    }

    /// Drops the sender once the session's interest has ended.
    pub(crate) fn tell_when_interest_ended(&self, ended: oneshot::Sender<Infallible>) {
        self.awaiting_end.borrow_mut().push(ended);
    }

    /// Tells those who wait for it that nothing is matched for this session any more.
    pub(crate) fn tell_interest_ended(&self) {
        self.awaiting_end.borrow_mut().clear();
    }

    /// Nothing more will be queued: writers finish, publishers stop waiting for this session.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.gauge.set(false);
        self.control_filled.notify_one();
        self.control_drained.notify_waiters();
        self.outbox_filled.notify_one();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whatever ended it, nobody must go on waiting for it.
        self.gauge.set(false);
    }
}
