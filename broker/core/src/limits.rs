//! The limits that only the broker needs to know; what clients must know of is in [`zonecast_protocol::Limits`].

/// Bounds of one session's outbox. Crossing the soft mark holds reliable publishers back; nothing passes the hard one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Most deliveries that wait. Default: 65,536.
    pub deliveries_max: usize,
    /// Most bytes of events that wait. Default: 64 MiB.
    pub bytes_max: usize,
    /// From so many waiting deliveries on, reliable publishers to the session are held back. Default: 8,192.
    pub deliveries_soft: usize,
    /// From so many waiting bytes on, reliable publishers to the session are held back. Default: 8 MiB.
    pub bytes_soft: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { deliveries_max: 65_536, bytes_max: 64 << 20, deliveries_soft: 8_192, bytes_soft: 8 << 20 }
    }
}
