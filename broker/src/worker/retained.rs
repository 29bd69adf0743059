//! What all sessions hold together, bounded.

use std::{
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::sleep;
use zonecast_protocol::wire::ErrorCode;

use super::Worker;
use crate::RetainedLimits;

/// How often the soft marks of sessions are halved while memory is scarce.
const SCARCITY: u32 = 3;

/// How often what is held is compared with the bounds: often enough that little can come in between.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// Bytes of events and control frames that the sessions of each worker hold: waiting, or not acknowledged.
#[derive(Debug)]
pub(crate) struct Retained {
    limits: RetainedLimits,
    by_worker: Vec<AtomicUsize>,
}

impl Retained {
    pub(crate) fn new(limits: RetainedLimits, workers: usize) -> Self {
        Self { limits, by_worker: (0..workers).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// All of it, by what each worker said last.
    pub(crate) fn bytes(&self) -> usize {
        self.by_worker.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Worker {
    /// Compares what is held with the bounds, again and again.
    pub(super) async fn watch_retained(self: Rc<Self>) {
        loop {
            sleep(WATCH_EVERY).await;
            self.bound_retained();
        }
    }

    /// Beyond the soft bound sessions are over their marks earlier, beyond the hard one the largest session of the
    /// worker whose sessions hold most is ended.
    fn bound_retained(&self) {
        let Retained { limits, by_worker } = &self.shared.retained;
        let state = self.state.borrow();
        let held: usize = state.sessions.values().map(|session| session.held_bytes()).sum();
        if let Some(own) = by_worker.get(usize::from(self.index)) {
            own.store(held, Ordering::Relaxed);
        }
        let total = self.shared.retained.bytes();
        let scarcity = if total > limits.bytes_soft { SCARCITY } else { 0 };
        if self.scarcity.replace(scarcity) != scarcity {
            state.sessions.values().for_each(|session| session.set_scarcity(scarcity));
        }
        // Of all workers, the one whose sessions hold most ends its largest.
        let is_fullest = by_worker.iter().all(|other| other.load(Ordering::Relaxed) <= held);
        if total > limits.bytes_max
            && is_fullest
            && let Some(largest) = state.sessions.values().max_by_key(|session| session.held_bytes())
        {
            largest
                .end(ErrorCode::SlowConsumer, "the broker's memory for queues is full, and this queue is the largest");
        }
    }
}
