//! Latencies and counts over the measured time, kept by each process and added up by the conductor.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer latencies count as this: ten minutes, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Slots that the measured time is cut into, if they are not shorter than [`SLOT_NS_MIN`].
const SLOTS: u64 = 60;
/// Shortest slot.
const SLOT_NS_MIN: u64 = 100_000_000;

/// The measured time, by [`now_ns`](super::now_ns).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its beginning.
    pub start_ns: u64,
    /// Its end, which does not belong to it.
    pub end_ns: u64,
}

impl Window {
    /// Length of a slot.
    #[must_use]
    pub fn slot_ns(&self) -> u64 {
        ((self.end_ns - self.start_ns) / SLOTS).max(SLOT_NS_MIN)
    }

    /// Number of slots; the last may be shorter.
    #[must_use]
    pub fn slots(&self) -> usize {
        (self.end_ns - self.start_ns).div_ceil(self.slot_ns()) as usize
    }

    /// The slot of a time; `None` when it is not in the window.
    #[must_use]
    pub fn slot(&self, at_ns: u64) -> Option<usize> {
        (self.start_ns..self.end_ns).contains(&at_ns).then(|| ((at_ns - self.start_ns) / self.slot_ns()) as usize)
    }
}

/// A histogram of latencies in microseconds.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the histogram offers 3 significant digits")
}

/// How many there were, and how long they took, slot by slot.
///
/// Counts are by the time of arrival: the throughput. Latencies are by the time of sending: every event that was sent
/// within the window counts, however late it arrived.
#[derive(Debug, Clone)]
pub struct Tally {
    window: Window,
    counts: Vec<u64>,
    latencies: Vec<Histogram<u64>>,
}

impl Tally {
    /// An empty tally.
    #[must_use]
    pub fn new(window: Window) -> Self {
        let slots = window.slots();
        Self { window, counts: vec![0; slots], latencies: vec![latency_histogram(); slots] }
    }

    /// Enters what was sent at one time and arrived at another.
    pub fn enter(&mut self, sent_ns: u64, arrived_ns: u64) {
        if let Some(slot) = self.window.slot(arrived_ns) {
            self.counts[slot] += 1;
        }
        if let Some(slot) = self.window.slot(sent_ns) {
            self.latencies[slot].saturating_record(arrived_ns.saturating_sub(sent_ns) / 1000);
        }
    }

    /// The measured time.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Counts, slot by slot.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Latencies in microseconds, slot by slot.
    #[must_use]
    pub fn latencies(&self) -> &[Histogram<u64>] {
        &self.latencies
    }

    /// All latencies, in microseconds.
    #[must_use]
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = latency_histogram();
        for slot in &self.latencies {
            all += slot;
        }
        all
    }

    /// Adds what another process has entered.
    pub fn add(&mut self, other: &TallyRecord) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        for (latency, more) in self.latencies.iter_mut().zip(&other.latencies) {
            more.add_to(latency);
        }
    }

    /// The tally as it travels between processes.
    #[must_use]
    pub fn record(&self) -> TallyRecord {
        let latencies = self.latencies.iter().map(HistogramRecord::from).collect();
        TallyRecord { counts: self.counts.clone(), latencies }
    }
}

/// A [`Tally`] as it travels between processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TallyRecord {
    counts: Vec<u64>,
    latencies: Vec<HistogramRecord>,
}

/// A histogram as it travels: each value that occurs with its count. Values are those of the histogram's buckets, so
/// nothing is lost that the histogram had.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HistogramRecord(Vec<(u64, u64)>);

impl From<&Histogram<u64>> for HistogramRecord {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }
}

impl HistogramRecord {
    /// Adds it to a histogram.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (value, count) in &self.0 {
            histogram.saturating_record_n(*value, *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Window = Window { start_ns: 1_000_000_000, end_ns: 3_050_000_000 };

    #[test]
    fn arrivals_count_when_they_come_and_latencies_when_they_were_sent() {
        let mut tally = Tally::new(WINDOW);
        assert_eq!((WINDOW.slot_ns(), tally.counts().len()), (100_000_000, 21));
        tally.enter(999_999_999, 1_000_000_000);
        tally.enter(1_000_000_000, 1_150_000_000);
        tally.enter(3_049_999_999, 3_050_000_000);
        tally.enter(3_050_000_000, 3_060_000_000);
        assert_eq!((tally.counts()[0], tally.counts()[1], tally.counts()[20]), (1, 1, 0));
        let latency = tally.latency();
        assert_eq!((latency.len(), latency.min()), (2, 0));
        assert!(latency.max().abs_diff(150_000) < 200, "{}", latency.max());
    }

    proptest! {
        /// Entered by several processes and added up, or entered by one: the same.
        #[test]
        fn tallies_add_up(entries in prop::collection::vec((900_000_000_u64..3_100_000_000, 0_u64..5_000_000_000, 0_usize..3), 0..200)) {
            let mut parts = vec![Tally::new(WINDOW); 3];
            let mut whole = Tally::new(WINDOW);
            for (sent, took, part) in entries {
                parts[part].enter(sent, sent + took);
                whole.enter(sent, sent + took);
            }
            let mut sum = Tally::new(WINDOW);
            for part in &parts {
                let text = serde_json::to_string(&part.record()).unwrap();
                sum.add(&serde_json::from_str(&text).unwrap());
            }
            prop_assert_eq!(sum.counts(), whole.counts());
            prop_assert_eq!(sum.latencies(), whole.latencies());
        }
    }
}
