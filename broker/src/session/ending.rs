//! Why a session ends, and who asks for it.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;
use zonecast_protocol::{Refusal, wire::ErrorCode};

use super::Session;

/// What is asked of a session's end.
#[derive(Default)]
pub(super) struct Ending {
    /// Set once.
    reason: RefCell<Option<(ErrorCode, String)>>,
    asked: Notify,
    /// Set when its token has expired or was revoked, also where something else ends it already.
    disowned: Cell<bool>,
    disowned_set: Notify,
}

impl Session {
    /// Asks for the session's end. The first reason counts.
    pub(crate) fn end(&self, code: ErrorCode, reason: &str) {
        let mut end = self.ending.reason.borrow_mut();
        if code != ErrorCode::SessionReplaced {
            self.forfeit_resume();
        }
        if end.is_none() {
            *end = Some((code, reason.to_owned()));
            self.ending.asked.notify_one();
        }
    }

    /// Asks for the session's end because its token does not count any more.
    pub(crate) fn disown(&self, refusal: &Refusal) {
        self.ending.disowned.set(true);
        self.ending.disowned_set.notify_waiters();
        self.end(refusal.code, &refusal.message);
    }

    pub(crate) fn is_disowned(&self) -> bool {
        self.ending.disowned.get()
    }

    /// Waits until its token does not count any more.
    pub(crate) async fn disowned(&self) {
        let set = self.ending.disowned_set.notified();
        if !self.ending.disowned.get() {
            set.await;
        }
    }

    /// Waits until the session's end is asked for.
    pub(crate) async fn ended(&self) -> (ErrorCode, String) {
        loop {
            let end = self.ending.reason.borrow().clone();
            match end {
                Some(end) => return end,
                None => self.ending.asked.notified().await,
            }
        }
    }
}
