//! The settings of the service.

use std::{collections::BTreeMap, time::Duration};

use zonecast_protocol::WorldName;

/// The settings of the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How long a lease lasts without a heartbeat. Default: 10 s.
    pub lease: Duration,
    /// How often a process looks for leases that have ended and for what others changed. Default: 250 ms.
    pub poll: Duration,
    /// Most zones of one server. Default: 4,096.
    pub zones_per_server_max: u32,
    /// Most streams of changes at once. Default: 1,000.
    pub watchers_max: usize,
    /// How long changes are kept for who watches. Default: 1 h.
    pub changes_retention: Duration,
    /// Where characters without a last place appear, by world. Default: none.
    pub spawn_points: BTreeMap<WorldName, [f64; 2]>,
    /// Whom tickets name as their issuer. Default: `zonecast-directory`.
    pub ticket_issuer: String,
    /// How long a ticket lets its player in. Default: 60 s.
    pub ticket_lifetime: Duration,
    /// How long a key signs tickets. Default: 24 h.
    pub ticket_key_period: Duration,
    /// How long a key is known to all before it signs. Default: 10 min.
    pub ticket_key_notice: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            poll: Duration::from_millis(250),
            zones_per_server_max: 4_096,
            watchers_max: 1_000,
            changes_retention: Duration::from_secs(3_600),
            spawn_points: BTreeMap::new(),
            ticket_issuer: "zonecast-directory".to_owned(),
            ticket_lifetime: Duration::from_secs(60),
            ticket_key_period: Duration::from_secs(86_400),
            ticket_key_notice: Duration::from_secs(600),
        }
    }
}
