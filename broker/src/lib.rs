//! The zonecast broker: QUIC, worker threads, admission and admin HTTP around the pure core.
//!
//! [`Broker::start`] opens one UDP socket and one thread per worker. Each worker has a single-threaded runtime, a QUIC
//! endpoint, its own sessions and a full copy of the interest table, and talks to the others through bounded mailboxes.
//! An event is matched once, on the worker where it arrives; another worker with receivers gets it by one hand-over.
//! Workers share only what must be global: admission, the number of the latest change of interest, and for each session
//! one flag that says whether it can take more.
//!
//! Deliberately absent: any decision about who hears what. That is `zonecast-core`, without sockets or clocks.
//!
//! Start at [`BrokerConfig`], then [`Broker`]; the way of an event begins in `connection/lane.rs`.

mod admin;
mod admission;
mod broker;
mod config;
mod connection;
mod endpoint;
mod grant;
mod local;
mod mail;
mod metrics;
mod serving;
mod session;
mod stats;
mod tls;
mod worker;

pub use broker::{Broker, BrokerError};
pub use config::{
    BrokerConfig, ClientIdentity, ConnectionLimits, PublishLimits, QuicWindows, RetainedLimits, SessionLimits,
    WORKERS_MAX,
};
pub use endpoint::EndpointError;
pub use grant::TrustUpkeep;
pub use local::{LocalBroker, LocalGround, LocalWorker};
pub use tls::{BrokerTls, ResetSecret, SecretTooShort, TlsError, client_named_by};
pub use zonecast_core::OutboxLimits;
pub use zonecast_protocol::Rights;
