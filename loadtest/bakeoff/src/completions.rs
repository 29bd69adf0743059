//! Which published events are complete, told by the task that reads to the one that publishes.

use std::{cell::RefCell, fmt, rc::Rc};

use tokio::sync::Notify;
use zonecast_loadtest::load::TransportError;

/// Shared between the two, on one thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Completions {
    state: Rc<RefCell<State>>,
    changed: Rc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    done: Vec<Option<u32>>,
    failure: Option<String>,
}

impl Completions {
    /// The next events are complete, having matched so many sessions where that is known.
    pub(crate) fn complete(&self, matched: impl IntoIterator<Item = Option<u32>>) {
        self.state.borrow_mut().done.extend(matched);
        self.changed.notify_one();
    }

    /// Nothing will be complete any more.
    pub(crate) fn fail(&self, failure: impl fmt::Display) {
        self.state.borrow_mut().failure.get_or_insert_with(|| failure.to_string());
        self.changed.notify_one();
    }

    /// Moves what is complete over, where anything is.
    pub(crate) fn try_take(&self, done: &mut Vec<Option<u32>>) -> Result<bool, TransportError> {
        let mut state = self.state.borrow_mut();
        if !state.done.is_empty() {
            done.append(&mut state.done);
            return Ok(true);
        }
        match &state.failure {
            Some(failure) => Err(TransportError::new("the connection is lost", failure.clone())),
            None => Ok(false),
        }
    }

    /// The same, waiting until anything is.
    pub(crate) async fn take(&self, done: &mut Vec<Option<u32>>) -> Result<(), TransportError> {
        while !self.try_take(done)? {
            self.changed.notified().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_complete_before_a_failure_is_told_before_it() {
        let completions = Completions::default();
        let mut done = Vec::new();
        assert!(!completions.try_take(&mut done).unwrap());
        completions.complete([Some(1), None]);
        completions.fail("gone");
        completions.take(&mut done).await.unwrap();
        assert_eq!(done, [Some(1), None]);
        assert!(completions.take(&mut done).await.unwrap_err().to_string().contains("lost"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_waits_is_woken() {
        let completions = Completions::default();
        let mut done = Vec::new();
        let later = completions.clone();
        let ((), taken) = tokio::join!(async { later.complete([None]) }, completions.take(&mut done));
        taken.unwrap();
        assert_eq!(done, [None]);
    }
}
