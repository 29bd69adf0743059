//! What a replay found.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a replay found. Serialised, it is the JSON that `zonecast replay --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Events published.
    pub events: u64,
    /// Sessions that received.
    pub sessions: usize,
    /// Zones that they held.
    pub zones: usize,
    /// Deliveries received.
    pub deliveries: u64,
    /// Events that reached nobody, by the broker's acknowledgement.
    pub unmatched_events: u64,
    /// Deliveries due by brute force that were not received.
    pub lost: u64,
    /// Deliveries received more than once.
    pub duplicated: u64,
    /// Deliveries received that brute force does not know of.
    pub unexpected: u64,
    /// Events whose acknowledgement named another number of sessions than brute force.
    pub miscounted_acks: u64,
    /// From the first publish to the last delivery, in seconds.
    pub elapsed_s: f64,
    /// From the call to publish to the receiving application, in microseconds.
    pub latency_us: LatencyReport,
}

impl Report {
    /// Whether what arrived is exactly what should have.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.unexpected == 0 && self.miscounted_acks == 0
    }
}

/// Quantiles of a latency, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Greatest.
    pub max: u64,
}

impl From<&Histogram<u64>> for LatencyReport {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}
