//! Flow control for brokers that cut off slow subscribers or drop for them: subscribers report how far they are, and
//! publishers hold back when too much is under way.
//!
//! A report is a message like any other, through the same broker, as users of such brokers do it.

use std::{cell::RefCell, rc::Rc};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use zonecast_loadtest::load::{Stamp, TransportError};

/// Copies of one publisher under way at most, all zones together. Those of four publishers fit into what async-nats
/// keeps for one subscription before it drops, and spread over sessions stay far below the 8 MB and 64 MB at which Redis
/// and NATS cut off.
pub(crate) const WINDOW_COPIES: u64 = 32 * 1024;

/// Copies that all sessions together may have received and not reported yet: half of the window.
const UNREPORTED_COPIES: u64 = WINDOW_COPIES / 2;

/// What a publisher knows of its copies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    state: Rc<RefCell<State>>,
    changed: Rc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    under_way: u64,
    failure: Option<String>,
}

impl Window {
    /// Waits for room, then takes it for so many copies.
    pub(crate) async fn take(&self, copies: u64) -> Result<(), TransportError> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if let Some(failure) = &state.failure {
                    return Err(TransportError::new("the connection is lost", failure.clone()));
                }
                if state.under_way == 0 || state.under_way + copies <= WINDOW_COPIES {
                    state.under_way += copies;
                    return Ok(());
                }
            }
            self.changed.notified().await;
        }
    }

    /// Whether [`take`](Self::take) would wait.
    pub(crate) fn is_full_for(&self, copies: u64) -> bool {
        let state = self.state.borrow();
        state.under_way > 0 && state.under_way + copies > WINDOW_COPIES
    }

    /// So many have been received.
    pub(crate) fn give_back(&self, copies: u64) {
        let mut state = self.state.borrow_mut();
        state.under_way = state.under_way.saturating_sub(copies);
        self.changed.notify_one();
    }

    /// Nothing will be received any more.
    pub(crate) fn fail(&self, failure: impl std::fmt::Display) {
        self.state.borrow_mut().failure = Some(failure.to_string());
        self.changed.notify_one();
    }
}

/// What a session has received and not reported yet, by publisher.
#[derive(Debug)]
pub(crate) struct Reports {
    every: u32,
    received: FxHashMap<u32, u32>,
    due: Vec<u32>,
}

impl Reports {
    /// For one of so many sessions.
    pub(crate) fn new(sessions: u32) -> Self {
        let every = UNREPORTED_COPIES / u64::from(sessions.max(1));
        let every = u32::try_from(every).unwrap_or(u32::MAX).max(1);
        Self { every, received: FxHashMap::default(), due: Vec::new() }
    }

    /// Notes a copy.
    pub(crate) fn note(&mut self, payload: &[u8]) {
        let Some(stamp) = Stamp::read(payload) else { return };
        let received = self.received.entry(stamp.publisher).or_default();
        *received += 1;
        if *received == self.every {
            self.due.push(stamp.publisher);
        }
    }

    /// A report that is due: to which publisher, and how many copies.
    pub(crate) fn next(&self) -> Option<(u32, u32)> {
        let publisher = *self.due.last()?;
        Some((publisher, self.received.get(&publisher).copied().unwrap_or_default()))
    }

    /// The report that [`next`](Self::next) named has been sent.
    pub(crate) fn sent(&mut self, publisher: u32) {
        self.due.retain(|due| *due != publisher);
        self.received.remove(&publisher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(publisher: u32) -> [u8; 24] {
        let mut payload = [0; 24];
        Stamp { publisher, run: 0, sequence: 0, sent_ns: 0 }.write(&mut payload);
        payload
    }

    #[test]
    fn a_report_is_due_after_so_many_copies_and_counts_those_that_came_meanwhile() {
        // So many sessions that each reports after two copies.
        let mut reports = Reports::new(u32::try_from(UNREPORTED_COPIES / 2).unwrap());
        reports.note(&payload(7));
        assert_eq!(reports.next(), None);
        reports.note(&payload(8));
        reports.note(&payload(7));
        reports.note(&payload(7));
        assert_eq!(reports.next(), Some((7, 3)));
        reports.sent(7);
        assert_eq!(reports.next(), None, "one of publisher 8 is not worth a report");
    }

    #[test]
    fn what_may_stay_unreported_never_fills_the_window() {
        for sessions in [1, 32, 1000, 4000] {
            let unreported = u64::from(Reports::new(sessions).every - 1) * u64::from(sessions);
            assert!(unreported <= UNREPORTED_COPIES, "{sessions} sessions");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_window_makes_its_publisher_wait_for_a_report() {
        let window = Window::default();
        window.take(WINDOW_COPIES - 1).await.unwrap();
        assert!(!window.is_full_for(1));
        assert!(window.is_full_for(2));
        let ((), taken) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                window.give_back(1);
            },
            window.take(2)
        );
        taken.unwrap();
        assert_eq!(window.state.borrow().under_way, WINDOW_COPIES);
        window.fail("gone");
        assert!(window.take(1).await.is_err());
    }
}
