//! What a peer process is told: what its clients do, and later orders.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use zonecast_trials::{BrokerNumber, Run, Shares};

/// The name in the brokers' certificates.
pub(crate) const SERVER_NAME: &str = "broker.chaos.test";
/// The world of the zones and places.
pub(crate) const WORLD: &str = "field";
/// What everyone may be asked at the end.
pub(crate) const PROBE: &str = "probe";
/// Sides of the square in which zones and places lie.
pub(crate) const FIELD: i64 = 1_000;

/// One peer process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PeerScript {
    /// Where it writes what it sees.
    pub(crate) journal: PathBuf,
    /// Whom it trusts.
    pub(crate) ca: PathBuf,
    /// All brokers, and where they are.
    pub(crate) brokers: Vec<(BrokerNumber, SocketAddr)>,
    /// Its clients.
    pub(crate) clients: Vec<ClientScript>,
    /// Draws what is left to chance.
    pub(crate) seed: u64,
}

/// One client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClientScript {
    /// Which client this is, in which of its runs.
    pub(crate) run: Run,
    /// The brokers that it knows, the first one first.
    pub(crate) brokers: Vec<BrokerNumber>,
    /// Its zones: south-west and north-east corners.
    pub(crate) zones: Vec<[(i64, i64); 2]>,
    /// Whether it moves a zone now and then.
    pub(crate) moves_zones: bool,
    /// Its topic patterns.
    pub(crate) patterns: Vec<String>,
    /// The longest that its application takes over one event.
    pub(crate) takes_up_to: Duration,
    /// Whether the application says itself when it is done with an event.
    pub(crate) explicit: bool,
    /// Its publishers, each on a lane of its own.
    pub(crate) publishers: Vec<PublisherScript>,
}

/// One publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PublisherScript {
    /// Its lane.
    pub(crate) lane: u8,
    /// Mean time between two events.
    pub(crate) every: Duration,
    /// Where its events go.
    pub(crate) aims: Aims,
    /// What they ask for.
    pub(crate) shares: Shares,
    /// Longest payload.
    pub(crate) payload_bytes_max: usize,
    /// How long a publisher waits for its event to be processed.
    pub(crate) expires_in: Duration,
    /// Publishes whose answers are awaited at once, at most.
    pub(crate) awaited_max: usize,
}

/// Where events go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Aims {
    /// Anywhere in the field.
    Anywhere,
    /// To one of these topics.
    Topics(Vec<String>),
}

/// What a peer is told while it runs, one line of JSON each. When its standard input ends, it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Publish nothing more.
    BeQuiet,
    /// Every client says something to everyone who listens to [`PROBE`].
    Probe,
    /// Count from now on which clients have connected again.
    Mark,
    /// Say how it stands.
    Report,
}

/// How it stands with a peer, one line of JSON for each [`Order::Report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Clients that have all their subscriptions.
    pub(crate) ready: usize,
    /// Clients that are connected.
    pub(crate) linked: usize,
    /// Clients that are connected, and were not all the time since the last [`Order::Mark`].
    pub(crate) relinked: usize,
    /// Publishes whose answer is awaited, or that wait for room.
    pub(crate) awaited: usize,
    /// Answers so far.
    pub(crate) answered: u64,
    /// Events handed to applications so far.
    pub(crate) delivered: u64,
}
