//! What a broker is told at its start, validated.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use zonecast_core::{OutboxLimits, Rights};
use zonecast_protocol::Limits;

use crate::BrokerTls;

/// Everything a broker needs to know. [`BrokerConfig::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The UDP address to serve QUIC on; port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// The TCP address of the admin HTTP server (`/live`, `/ready`, `/metrics`), or `None` for none.
    pub admin_listen: Option<SocketAddr>,
    /// Worker threads, at most [`WORKERS_MAX`].
    pub workers: NonZeroUsize,
    /// The broker's certificate, and who may connect.
    pub tls: BrokerTls,
    /// What clients may do.
    pub rights: Rights,
    /// Limits that clients are told of.
    pub limits: Limits,
    /// Bounds of each session's queue.
    pub outbox: OutboxLimits,
    /// Bounds of connections and waiting.
    pub connections: ConnectionLimits,
    /// Worlds that get a label of their own in the metrics; further ones count as `other`. Default: 64.
    pub worlds_labelled_max: usize,
    /// Time from the first signal to the end of the process, for clients to leave and queues to drain. Default: 10 s.
    pub shutdown_grace: Duration,
}

/// Most worker threads of one broker.
pub const WORKERS_MAX: usize = 256;

/// Bounds of connections, and how long the broker waits for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most connections in all. Default: 10,000.
    pub connections_max: usize,
    /// Most connections from one IP address. Default: 2,000.
    pub connections_per_address_max: usize,
    /// Time in which the QUIC and TLS handshake and the hello must be done. Default: 5 s.
    pub hello_timeout: Duration,
    /// A connection without a sign of life for so long is lost. Default: 10 s.
    pub idle_timeout: Duration,
    /// A session that takes nothing from a waiting queue for so long is ended (`SLOW_CONSUMER`). Default: 10 s.
    pub slow_consumer_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 2_000,
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            slow_consumer_timeout: Duration::from_secs(10),
        }
    }
}

impl BrokerConfig {
    /// A broker on `listen` with one worker per core, no admin server, and every limit at its default.
    #[must_use]
    pub fn new(listen: SocketAddr, tls: BrokerTls) -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            listen,
            admin_listen: None,
            workers: cores.min(NonZeroUsize::new(WORKERS_MAX).unwrap_or(NonZeroUsize::MIN)),
            tls,
            rights: Rights::default(),
            limits: Limits::default(),
            outbox: OutboxLimits::default(),
            connections: ConnectionLimits::default(),
            worlds_labelled_max: 64,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}
