//! Where a broker is and whom it may trust.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// What the clients of every peer are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTarget {
    /// Where the broker listens.
    pub address: SocketAddr,
    /// The authority of its certificate, in PEM; none for a connection without TLS.
    pub ca: Option<PathBuf>,
    /// For ZeroMQ: the broker's public key, in Z85.
    pub curve_key: Option<String>,
}
