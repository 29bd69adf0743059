//! A session as its worker holds it: what waits for it, and how its tasks are woken.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::BytesMut;
use tokio::sync::{Notify, oneshot};
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
    /// Set when nothing more will be queued for the client.
    closing: Cell<bool>,
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
            closing: Cell::new(false),
            awaiting_end: RefCell::default(),
        }
    }

    /// Queues a delivery.
    pub(crate) fn deliver(&self, event: OutboundEvent) -> Pushed {
        let mut outbox = self.outbox.borrow_mut();
        let pushed = outbox.push(event);
        self.gauge.set(outbox.is_over_soft_mark());
        drop(outbox);
        if pushed == Pushed::Overflow {
            self.end(ErrorCode::SlowConsumer, "the session's queue is full; read faster or subscribe to less");
        }
        self.outbox_filled.notify_one();
        pushed
    }

    /// Looks at the outbox, or takes from it.
    pub(crate) fn with_outbox<T>(&self, look: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = self.outbox.borrow_mut();
        let seen = look(&mut outbox);
        self.gauge.set(outbox.is_over_soft_mark() && !self.closing.get());
        if outbox.is_empty() {
            self.outbox_drained.notify_waiters();
        }
        seen
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

    /// Waits while more answers wait than a client that reads them would leave.
    pub(crate) async fn room_for_answers(&self) {
        loop {
            let drained = self.control_drained.notified();
            if self.control.borrow().len() < CONTROL_BYTES_SOFT {
                return;
            }
            drained.await;
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
