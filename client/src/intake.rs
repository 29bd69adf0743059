//! What the client knows of the deliveries to it that the broker must be told: what was received, and what the
//! application has done with it.
//!
//! Shared by the reader of deliveries, the driver, and every event that is in process; so it has a lock of its own, and
//! knows nothing of them.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{sync::Notify, time::Instant};
use zonecast_protocol::wire;

use crate::{event::EventId, sync::locked};

mod acks;
mod processing;

use acks::Acks;
pub(crate) use acks::Due;
use processing::Processing;
pub(crate) use processing::Verdict;

pub(crate) struct Intake {
    books: Mutex<Books>,
    /// Tells the driver that there is something to send, or to send later than it knew.
    pub(crate) wake: Notify,
}

struct Books {
    acks: Acks,
    processing: Processing,
}

/// Where a session stands, for its resumption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The last number up to which the delivery stream was received.
    pub(crate) delivered_through: u64,
    /// How many frames of the control stream were received, without Welcome and GoAway.
    pub(crate) control_through: u64,
}

impl Intake {
    pub(crate) fn new() -> Self {
        let books = Books { acks: Acks::new(), processing: Processing::new() };
        Self { books: Mutex::new(books), wake: Notify::new() }
    }

    /// A new session begins, which goes on from the one before or not. `kept`: the broker keeps for a resumption what it
    /// is not told to have been received.
    pub(crate) fn begin_session(&self, resumed: bool, kept: bool) {
        let mut books = locked(&self.books);
        books.acks.begin_session(resumed, kept);
        books.processing.begin_session();
    }

    pub(crate) fn position(&self) -> Position {
        locked(&self.books).acks.position()
    }

    /// The delivery stream was received through this number; so many bytes of deliveries have come.
    pub(crate) fn received(&self, through_seq: u64, bytes: usize) {
        if locked(&self.books).acks.received(through_seq, bytes, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// So many frames of the control stream that count have come. The driver is who calls this, and needs no waking.
    pub(crate) fn control_received(&self, frames: u64, bytes: usize) {
        locked(&self.books).acks.control_received(frames, bytes, Instant::now());
    }

    /// What must be sent now, or when to ask again.
    pub(crate) fn due(&self) -> Due {
        locked(&self.books).acks.due(Instant::now())
    }

    /// Everything that the broker has not been told, if there is anything that it waits for.
    pub(crate) fn last_words(&self) -> Option<wire::DeliveryAck> {
        locked(&self.books).acks.outstanding()
    }

    /// An event whose publisher waits is given to so many subscriptions; each must get one [`Part`] of it.
    pub(crate) fn begin(&self, id: EventId, seq: u64, parts: u32) {
        locked(&self.books).processing.begin(id, seq, parts);
    }

    /// As [`begin`](Self::begin), for further subscriptions to an event that is under way.
    pub(crate) fn begin_more(&self, id: EventId, parts: u32) {
        locked(&self.books).processing.begin_more(id, parts);
    }

    /// An event whose publisher waits was delivered again.
    pub(crate) fn again(&self, id: EventId, seq: u64) {
        let mut books = locked(&self.books);
        if let Some(verdict) = books.processing.again(id, seq) {
            books.acks.settled(seq, verdict);
            drop(books);
            self.wake.notify_one();
        }
    }

    /// An event whose publisher waits is where it belongs.
    pub(crate) fn accept(&self, seq: u64) {
        locked(&self.books).acks.settled(seq, Verdict::Processed);
        self.wake.notify_one();
    }

    /// An event whose publisher waits has nobody to process it here. `id` when it could be read.
    pub(crate) fn reject(&self, id: Option<EventId>, seq: u64) {
        let mut books = locked(&self.books);
        if let Some(id) = id {
            books.processing.reject(id);
        }
        books.acks.settled(seq, Verdict::Rejected);
        drop(books);
        self.wake.notify_one();
    }

    fn finish_part(&self, id: EventId, verdict: Verdict) {
        let mut books = locked(&self.books);
        if let Some((seq, verdict)) = books.processing.finish_part(id, verdict) {
            books.acks.settled(seq, verdict);
            drop(books);
            self.wake.notify_one();
        }
    }
}

/// One subscription's part in the processing of an event whose publisher waits for it.
///
/// Shared by the clones of the event. When the last of them goes and nobody has said that it is done, it is rejected.
pub(crate) struct Part {
    intake: Arc<Intake>,
    id: EventId,
    done: AtomicBool,
}

impl Part {
    /// One of the parts that were announced by [`Intake::begin`].
    pub(crate) fn new(intake: Arc<Intake>, id: EventId) -> Self {
        Self { intake, id, done: AtomicBool::new(false) }
    }

    pub(crate) fn done(&self) {
        if !self.done.swap(true, Relaxed) {
            self.intake.finish_part(self.id, Verdict::Processed);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !*self.done.get_mut() {
            self.intake.finish_part(self.id, Verdict::Rejected);
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("id", &self.id).field("done", &self.done).finish_non_exhaustive()
    }
}
