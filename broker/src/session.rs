//! A session as its worker holds it: what waits for it, and how its tasks are woken.

mod coalescing;
mod ending;
mod gauge;
mod patience;
mod succession;

use std::{
    cell::{Cell, Ref, RefCell},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;
use tokio::{sync::Notify, time::Instant};
use zonecast_core::{
    ControlLog, NeverSaid, NeverSent, OutboundEvent, Outbox, OutboxLimits, Outcome, Pushed, SessionId, SessionRules,
    Ticket, TokenBucket,
};
use zonecast_protocol::{
    ClientId,
    wire::{DeliveryAck, ErrorCode, server_frame},
};

pub(crate) use self::{
    coalescing::WRITE_BYTES,
    gauge::Gauge,
    succession::{Heritage, Resume, TakeOver},
};
use self::{coalescing::is_much, ending::Ending};
use crate::grant::Grant;

/// Bytes of answers that wait on the control stream before the session's own requests and publishes wait.
const CONTROL_BYTES_SOFT: usize = 256 << 10;
/// Bytes of answers, written or not, that a client may leave unconfirmed. All its zones, handed over with the longest
/// names, are some 30 MB.
const CONTROL_BYTES_MAX: usize = 64 << 20;

/// Why an acknowledgement cannot be.
#[derive(Debug, Error)]
pub(crate) enum AckError {
    /// Deliveries that were never sent.
    #[error("for delivery {0}, which was never sent")]
    Delivery(u64),
    /// Frames of the control stream that were never sent.
    #[error("for more frames of the control stream than were sent (control_through)")]
    Control,
}

impl From<NeverSent> for AckError {
    fn from(NeverSent { seq }: NeverSent) -> Self {
        Self::Delivery(seq)
    }
}

impl From<NeverSaid> for AckError {
    fn from(NeverSaid: NeverSaid) -> Self {
        Self::Control
    }
}

/// Whose a session is.
pub(crate) struct Bearer {
    pub(crate) client: ClientId,
    pub(crate) incarnation: u64,
    pub(crate) grant: Grant,
}

/// One session, shared by the tasks of its connection. Lives on one thread.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) client: ClientId,
    pub(crate) incarnation: u64,
    /// What lets it be.
    pub(crate) grant: RefCell<Grant>,
    /// For how long it outlives its link; zero: not at all.
    pub(crate) resume_window: Duration,
    pub(crate) rules: RefCell<SessionRules>,
    pub(crate) gauge: Arc<Gauge>,
    outbox: RefCell<Outbox>,
    outbox_filled: Notify,
    outbox_drained: Notify,
    control: RefCell<ControlLog>,
    control_filled: Notify,
    control_drained: Notify,
    ending: Ending,
    /// Set when nothing more is read from the client.
    stopping: Cell<bool>,
    stop_set: Notify,
    /// Set when nothing more will be queued for the client.
    closing: Cell<bool>,
    /// Set with the end of the session's interest: from then on no zone may be handed over to it.
    pub(crate) interest_ended: Cell<bool>,
    /// Since when the outbox is over its soft mark without a break.
    over_since: Cell<Option<Instant>>,
    over_set: Notify,
    /// When something was last acknowledged while it was over.
    acknowledged_at: Cell<Option<Instant>>,
    /// Set while it is over and nothing was acknowledged for so long that publishers were let go.
    is_stuck: Cell<bool>,
    /// How often the soft marks are halved.
    scarcity: Cell<u32>,
    /// Set when its link is lost: whoever is not there cannot take over a zone.
    pub(crate) detached: Cell<bool>,
    /// Cleared when the session may not be resumed any more.
    resumable: Cell<bool>,
    /// The session that this one resumed.
    resumed_from: Cell<Option<u64>>,
    /// The session that takes this one's place, if one does.
    heir: RefCell<Option<TakeOver>>,
    /// How fast its client may publish.
    publish_rate: RefCell<TokenBucket>,
    /// Steps under way that may still change what the session leaves behind.
    steps: Cell<usize>,
    step_done: Notify,
    /// Set when all that an earlier session left is here.
    ready: Cell<bool>,
    ready_set: Notify,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        bearer: Bearer,
        resume_window: Duration,
        rules: SessionRules,
        limits: OutboxLimits,
        publish_rate: TokenBucket,
    ) -> Self {
        let Bearer { client, incarnation, grant } = bearer;
        let keeps = !resume_window.is_zero();
        Self {
            id,
            client,
            incarnation,
            grant: RefCell::new(grant),
            resume_window,
            rules: RefCell::new(rules),
            gauge: Arc::default(),
            outbox: RefCell::new(Outbox::new(limits, keeps)),
            outbox_filled: Notify::new(),
            outbox_drained: Notify::new(),
            control: RefCell::new(ControlLog::new(keeps)),
            control_filled: Notify::new(),
            control_drained: Notify::new(),
            ending: Ending::default(),
            stopping: Cell::new(false),
            stop_set: Notify::new(),
            closing: Cell::new(false),
            interest_ended: Cell::new(false),
            over_since: Cell::new(None),
            over_set: Notify::new(),
            acknowledged_at: Cell::new(None),
            is_stuck: Cell::new(false),
            scarcity: Cell::new(0),
            resumable: Cell::new(!resume_window.is_zero()),
            detached: Cell::new(false),
            resumed_from: Cell::new(None),
            heir: RefCell::default(),
            publish_rate: RefCell::new(publish_rate),
            steps: Cell::new(0),
            step_done: Notify::new(),
            ready: Cell::new(false),
            ready_set: Notify::new(),
        }
    }

    /// Whether what was sent is kept until the client has it, for a resume.
    pub(crate) fn keeps(&self) -> bool {
        !self.resume_window.is_zero()
    }

    /// Queues a delivery.
    pub(crate) fn deliver(&self, event: &OutboundEvent<'_>) -> Pushed {
        let mut outbox = self.outbox.borrow_mut();
        let (was_empty, was_much) = (outbox.is_empty(), is_much(&outbox));
        let pushed = outbox.push(event);
        let is_now_much = is_much(&outbox) && !was_much;
        drop(outbox);
        self.set_gauge();
        if pushed == Pushed::Overflow {
            self.end(ErrorCode::SlowConsumer, "the session's queue is full; read faster or subscribe to less");
        }
        if was_empty || is_now_much {
            self.outbox_filled.notify_one();
        }
        pushed
    }

    /// Takes what the client says that it has. `outcome` is told of each ticket that is settled.
    pub(crate) fn acknowledge(&self, ack: &DeliveryAck, outcome: impl FnMut(Ticket, Outcome)) -> Result<(), AckError> {
        let done = [(Outcome::Processed, &ack.processed[..]), (Outcome::Rejected, &ack.rejected[..])];
        let held_bytes = self.outbox.borrow().held_bytes();
        self.outbox.borrow_mut().acknowledge(ack.through_seq, &done, outcome)?;
        if self.outbox.borrow().held_bytes() < held_bytes {
            self.set_acknowledged();
        }
        self.control.borrow_mut().confirm(ack.control_through)?;
        self.set_gauge();
        self.control_drained.notify_waiters();
        Ok(())
    }

    /// Bytes of events and control frames that wait or are not acknowledged.
    pub(crate) fn held_bytes(&self) -> usize {
        self.outbox.borrow().held_bytes() + self.control.borrow().held_bytes()
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

    /// Takes note of so many publishes; returns for how long to read no more of them.
    pub(crate) fn count_publishes(&self, count: u32, now_us: u64) -> Duration {
        let mut rate = self.publish_rate.borrow_mut();
        rate.take(count, now_us);
        Duration::from_micros(rate.wait_us(now_us))
    }

    /// From now on counts by another rate.
    pub(crate) fn change_publish_rate(&self, per_second: u32, burst: u32, now_us: u64) {
        self.publish_rate.borrow_mut().change(per_second, burst, now_us);
    }

    /// Queues a frame for the control stream.
    pub(crate) fn answer(&self, frame: server_frame::Frame) {
        let held_bytes = {
            let mut control = self.control.borrow_mut();
            control.push(frame);
            control.held_bytes()
        };
        if held_bytes > CONTROL_BYTES_MAX {
            self.end(ErrorCode::SlowConsumer, "answers are not confirmed (DeliveryAck.control_through)");
        }
        self.control_filled.notify_one();
    }

    /// Queues the last frame for the control stream.
    pub(crate) fn say_last(&self, frame: server_frame::Frame) {
        self.control.borrow_mut().push_last(frame);
        self.control_filled.notify_one();
    }

    /// Whether more answers wait, or are not confirmed, than a client that reads them would leave. Lanes wait for it.
    pub(crate) fn answers_are_many(&self) -> bool {
        self.control.borrow().held_bytes() >= CONTROL_BYTES_SOFT
    }

    /// Waits while that is so, unless nothing more is read from the client anyway.
    pub(crate) async fn room_for_answers(&self) {
        self.room_on_control(|session| !session.answers_are_many()).await;
    }

    /// Waits while more answers are unwritten than a client that reads them would leave. The control stream waits for no
    /// more than this: the confirmations of what was written come on it.
    pub(crate) async fn answers_written(&self) {
        self.room_on_control(|session| session.control.borrow().unwritten_bytes() < CONTROL_BYTES_SOFT).await;
    }

    async fn room_on_control(&self, is_room: impl Fn(&Self) -> bool) {
        let room = async {
            loop {
                let drained = self.control_drained.notified();
                if is_room(self) {
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
    pub(crate) async fn next_answers(&self) -> Option<Bytes> {
        loop {
            let waiting = self.control.borrow_mut().take();
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

    /// The session's end is final: it is not to be resumed.
    pub(crate) fn forfeit_resume(&self) {
        self.resumable.set(false);
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
