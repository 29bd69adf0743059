//! What a game server says of itself.

use std::time::Duration;

use tokio::sync::watch;

/// What a game server says of itself, and how patient it is.
#[derive(Debug, Clone)]
pub struct ZoneServerConfig {
    /// Where players reach it: host:port.
    pub address: String,
    /// How many players it takes; 0: not stated. Default: 0.
    pub capacity: u32,
    /// The SHA-256 of its certificate (DER), 32 bytes; empty: not stated. Default: empty.
    pub certificate_sha256: Vec<u8>,
    /// The worlds that it may simulate; none: those of its rights. Default: none.
    pub worlds: Vec<String>,
    /// Its access token, always the present one; none where no identities are configured. Default: none.
    pub token: Option<watch::Receiver<String>>,
    /// How long zones that were released are still heard. Default: 1 s.
    pub release_grace: Duration,
    /// How long one call of the directory may take. Default: 3 s.
    pub call_timeout: Duration,
}

impl ZoneServerConfig {
    /// The defaults, for a server at this address.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            capacity: 0,
            certificate_sha256: Vec::new(),
            worlds: Vec::new(),
            token: None,
            release_grace: Duration::from_secs(1),
            call_timeout: Duration::from_secs(3),
        }
    }
}
