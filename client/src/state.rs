//! How the connection is doing, for those who want to watch.

use std::{net::SocketAddr, time::Duration};

use thiserror::Error;
use tokio::sync::watch;

use crate::error::LinkError;

/// The connection of a client, now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionState {
    /// An attempt is being made.
    Connecting {
        /// Which one since the last connection, from 1.
        attempt: u32,
    },
    /// Connected, and all zones and topics are subscribed.
    Connected {
        /// The broker.
        address: SocketAddr,
        /// The session's number at the broker.
        session_id: u64,
        /// Whether the session before goes on in it, with nothing lost.
        resumed: bool,
    },
    /// Not connected; the next attempt follows after a wait.
    Disconnected {
        /// What became of the last connection or attempt.
        reason: LinkError,
        /// The wait.
        retry_in: Duration,
    },
    /// The end: no further attempt is made.
    Closed {
        /// Why.
        reason: ClosedReason,
    },
}

/// Why a client made an end.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ClosedReason {
    /// The application asked for it, or dropped the client and all its subscriptions.
    #[error("closed by the application")]
    ByApplication,
    /// The broker ended the session in a way after which connecting again would be wrong.
    #[error("{0}; not connecting again")]
    Fatal(LinkError),
    /// The first connection did not come about.
    #[error("never connected: {0}")]
    NeverConnected(LinkError),
    /// The client's task was stopped before it could take its leave: the runtime on which it was connected was shut down, or
    /// the task panicked.
    #[error("the client's task was stopped, with its runtime or by a panic; not connecting again")]
    Aborted,
}

/// Watches a client's connection. See [`Client::states`](crate::Client::states).
#[derive(Debug, Clone)]
pub struct ConnectionStates {
    states: watch::Receiver<ConnectionState>,
}

impl ConnectionStates {
    pub(crate) fn new(states: watch::Receiver<ConnectionState>) -> Self {
        Self { states }
    }

    /// The state now.
    #[must_use]
    pub fn current(&self) -> ConnectionState {
        self.states.borrow().clone()
    }

    /// Waits until the state is another than the one seen last. States that were left in the meantime are skipped.
    ///
    /// `None` after [`ConnectionState::Closed`] was seen.
    pub async fn next(&mut self) -> Option<ConnectionState> {
        // The sender may outlive the driver, so the end is known by the state rather than by the channel.
        if is_closed(&self.states.borrow()) && !self.states.has_changed().unwrap_or(false) {
            return None;
        }
        self.states.changed().await.ok()?;
        Some(self.states.borrow_and_update().clone())
    }

    /// Waits until the state satisfies `wanted` and returns it; `None` if that cannot happen any more.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&ConnectionState) -> bool) -> Option<ConnectionState> {
        let found = self.states.wait_for(|state| is_closed(state) || wanted(state)).await.ok()?.clone();
        wanted(&found).then_some(found)
    }
}

fn is_closed(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Closed { .. })
}
