//! What a broker is told at its start, validated.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use zonecast_core::{OutboxLimits, Rights};
use zonecast_protocol::Limits;

use crate::{BrokerTls, ResetSecret};

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
    /// From which the keys are made by which clients notice a restart. By default the private key of the certificate
    /// that the broker starts with; a secret of its own outlives that key.
    pub reset_secret: Option<ResetSecret>,
    /// What clients may do.
    pub rights: Rights,
    /// Limits that clients are told of.
    pub limits: Limits,
    /// Bounds of what one client may publish.
    pub publishes: PublishLimits,
    /// Bounds of each session's queue.
    pub outbox: OutboxLimits,
    /// Bounds of all sessions' queues together.
    pub retained: RetainedLimits,
    /// Bounds of sessions that outlive their links, and of what waits to be processed.
    pub sessions: SessionLimits,
    /// Bounds of connections and waiting.
    pub connections: ConnectionLimits,
    /// What may be in flight on a connection.
    pub windows: QuicWindows,
    /// Whom a client certificate admits; without client certificates it has no effect.
    pub client_identity: ClientIdentity,
    /// Worlds that get a label of their own in the metrics; further ones count as `other`. Default: 64.
    pub worlds_labelled_max: usize,
    /// Time from the first signal to the end of the process, for clients to leave and queues to drain. Default: 10 s.
    pub shutdown_grace: Duration,
}

/// Most worker threads of one broker.
pub const WORKERS_MAX: usize = 256;

/// Bounds of what one client may publish, and of what one event may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishLimits {
    /// Most sessions that one event may reach (`FAN_OUT_TOO_LARGE`). Default: 10,000.
    pub fan_out_max: usize,
    /// Publishes of one client that are read per second, over all its lanes; whoever sends more waits. 0 is no limit.
    /// Default: 250,000.
    pub per_second_max: u32,
    /// Publishes that a client which has been silent may send at once before the rate counts. Default: 50,000.
    pub burst_max: u32,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self { fan_out_max: 10_000, per_second_max: 250_000, burst_max: 50_000 }
    }
}

/// Bounds of what waits for all sessions together, in bytes of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetainedLimits {
    /// From here on, reliable publishers to sessions with a queue are held back. Default: 512 MiB.
    pub bytes_soft: usize,
    /// Beyond this, the session that holds most is ended (`SLOW_CONSUMER`). Default: 1 GiB.
    pub bytes_max: usize,
}

impl Default for RetainedLimits {
    fn default() -> Self {
        Self { bytes_soft: 512 << 20, bytes_max: 1 << 30 }
    }
}

/// Bounds of sessions that outlive their links, and of publishes that wait to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest time that a session without a link is kept, whatever the client asks for. Default: 60 s.
    pub resume_window_max: Duration,
    /// Longest time that a publish may wait to be processed (`EXPIRED`), whatever the client asks for. Default: 30 s.
    pub processed_timeout: Duration,
    /// Most publishes of one session that wait to be processed (`TOO_MANY_UNPROCESSED`). Default: 16,384.
    pub unprocessed_max: usize,
    /// Runs of a receiver that a delivery may be lost with before it is given up (`POISON`). Default: 3.
    pub redeliveries_max: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            resume_window_max: Duration::from_secs(60),
            processed_timeout: Duration::from_secs(30),
            unprocessed_max: 16_384,
            redeliveries_max: 3,
        }
    }
}

/// What may be in flight on one connection, in bytes. It bounds what a peer can make the broker keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicWindows {
    /// On one stream towards the broker. Default: 1 MiB.
    pub stream_receive_bytes_max: u32,
    /// On all streams of a connection towards the broker. Default: 4 MiB.
    pub receive_bytes_max: u32,
    /// Sent by the broker and not yet acknowledged by the peer's QUIC. Default: 4 MiB.
    pub send_bytes_max: u32,
    /// In datagrams that wait to be sent; the oldest are dropped beyond it. Default: 1 MiB.
    pub datagram_send_bytes_max: u32,
    /// The largest UDP payload: RFC 9000's `max_udp_payload_size`, and how far path MTU discovery goes. 1,200 to 65,527;
    /// the peer's own bound counts too. Default: 1,452, which fits Ethernet; 8,952 suits jumbo frames.
    pub udp_payload_bytes_max: u32,
}

impl Default for QuicWindows {
    fn default() -> Self {
        Self {
            stream_receive_bytes_max: 1 << 20,
            receive_bytes_max: 4 << 20,
            send_bytes_max: 4 << 20,
            datagram_send_bytes_max: 1 << 20,
            udp_payload_bytes_max: 1_452,
        }
    }
}

/// Whom a client certificate admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientIdentity {
    /// The clients that its subject alternative names name. The default.
    #[default]
    San,
    /// Any client: the certificate only shows that somebody trusted it.
    Any,
}

/// Bounds of connections, and how long the broker waits for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Most connections in all. Default: 10,000.
    pub connections_max: usize,
    /// Most connections from one IP address. Default: 2,000.
    pub connections_per_address_max: usize,
    /// Most connections of one identity: a client certificate's first name, else the client id
    /// (`TOO_MANY_CONNECTIONS`). Default: 1,000.
    pub connections_per_identity_max: usize,
    /// Most handshakes under way, in all; more are refused. Default: 2,000.
    pub handshakes_max: usize,
    /// Most handshakes under way from one IP address; more are refused. Default: 1,000.
    pub handshakes_per_address_max: usize,
    /// From so many handshakes under way on, a peer must first show by a Retry that its address is its own. 0 asks
    /// everyone. Default: 200.
    pub retry_from_handshakes: usize,
    /// Time in which the QUIC and TLS handshake must be done. Default: 3 s.
    pub handshake_timeout: Duration,
    /// Time from a connection's first packet in which its hello must be there. Default: 5 s.
    pub hello_timeout: Duration,
    /// A connection without a sign of life for so long is lost. Default: 10 s.
    pub idle_timeout: Duration,
    /// A session over its soft mark that acknowledges nothing for so long holds no publishers back any more; what comes for
    /// it waits up to its hard limits. Default: 250 ms.
    pub hold_timeout: Duration,
    /// A session that takes nothing from a waiting queue for so long is ended (`SLOW_CONSUMER`). Default: 10 s.
    pub slow_consumer_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 2_000,
            connections_per_identity_max: 1_000,
            handshakes_max: 2_000,
            handshakes_per_address_max: 1_000,
            retry_from_handshakes: 200,
            handshake_timeout: Duration::from_secs(3),
            hello_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            hold_timeout: Duration::from_millis(250),
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
            reset_secret: None,
            rights: Rights::default(),
            limits: Limits::default(),
            publishes: PublishLimits::default(),
            outbox: OutboxLimits::default(),
            retained: RetainedLimits::default(),
            sessions: SessionLimits::default(),
            connections: ConnectionLimits::default(),
            windows: QuicWindows::default(),
            client_identity: ClientIdentity::default(),
            worlds_labelled_max: 64,
            shutdown_grace: Duration::from_secs(10),
        }
    }
}
