//! The limits that only the broker needs to know; what clients must know of is in [`zonecast_protocol::Limits`].

/// Bounds of one session's outbox. Crossing the soft mark holds reliable publishers back; nothing passes the hard one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Most deliveries that wait. Default: 65,536.
    pub deliveries_max: usize,
    /// Most bytes of events that wait. Default: 64 MiB.
    pub bytes_max: usize,
    /// From so many waiting or unacknowledged deliveries on, reliable publishers to the session are held back, until it
    /// is down to half of it. Default: 4,096.
    pub deliveries_soft: usize,
    /// From so many bytes of these on, likewise. Default: 8 MiB.
    pub bytes_soft: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { deliveries_max: 65_536, bytes_max: 64 << 20, deliveries_soft: 4_096, bytes_soft: 8 << 20 }
    }
}
