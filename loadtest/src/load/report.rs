//! What a run found.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{LoadClass, LoadSettings, books::Balance, tally::Tally};
use crate::LatencyReport;

/// What a run found. Serialised, it is the JSON that `zonecast loadtest --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// What was asked for.
    pub settings: LoadSettings,
    /// Events per second that were to be sent: by the schedule, or as many as the broker took when unpaced.
    pub offered_events_s: f64,
    /// Events per second that were sent.
    pub events_s: f64,
    /// Deliveries per second that arrived.
    pub deliveries_s: f64,
    /// Latencies in microseconds of everything sent in the measured time: from the time at which it was to be sent
    /// (at a rate) or was sent (unpaced) to its arrival at the session.
    pub latency_us: LatencyReport,
    /// Events, with those of the warm-up.
    pub events: u64,
    /// Deliveries, with those of the warm-up.
    pub deliveries: u64,
    /// Deliveries due by brute force that did not arrive.
    pub lost: u64,
    /// Deliveries that arrived more than once.
    pub duplicated: u64,
    /// Deliveries that brute force does not know of.
    pub unexpected: u64,
    /// Acknowledgements that named another number of sessions than brute force.
    pub miscounted_acks: u64,
    /// Events that were never acknowledged.
    pub unanswered: u64,
    /// Moves of zones per second that were confirmed; 0 where zones stay.
    pub moves_s: f64,
    /// Seconds that publishers waited for the broker to take more, all publishers together, in the measured time.
    pub held_back_s: f64,
    /// Sessions that do not read; all other figures are without them.
    pub frozen_sessions: u32,
    /// Sessions that ended by an error, and the first such error.
    pub broken_sessions: u32,
    /// See `broken_sessions`.
    pub first_error: Option<String>,
    /// The broker; its figures are null where it is not a process of this machine that is known.
    pub broker: BrokerReport,
    /// The generators.
    pub generator: GeneratorReport,
    /// The machine.
    pub machine: MachineReport,
    /// Whether all that was promised held; see `failures`.
    pub passed: bool,
    /// What did not hold.
    pub failures: Vec<String>,
}

/// What the broker used in the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BrokerReport {
    /// CPU seconds of user and system for a million deliveries.
    pub cpu_s_per_million_deliveries: Option<f64>,
    /// CPU seconds per second.
    pub cores: Option<f64>,
    /// Memory at the end of the measured time, MiB resident.
    pub rss_mib: Option<f64>,
    /// Memory with all sessions connected and nothing published, MiB resident.
    pub rss_idle_mib: Option<f64>,
    /// What each session added while nothing was published, KiB.
    pub rss_per_session_kib: Option<f64>,
}

/// What the generators used in the measured time, and whether they could keep up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// CPU seconds per second, all generators together.
    pub cores: f64,
    /// Whether a generator was the bottleneck, so that the figures say less about the broker: one of them was busy for
    /// at least 95% of the time, which is all that its one thread has; or more than one event in a hundred was sent
    /// more than 1 ms late for a reason that lies in the generator.
    pub saturated: bool,
    /// CPU seconds per second of the publishers' process.
    pub publisher_cores: f64,
    /// CPU seconds per second of the busiest process that hosts sessions.
    pub session_cores_max: f64,
    /// Microseconds by which generators, not the broker, were behind the schedule; 0 when unpaced.
    pub late_us: LatencyReport,
}

/// The machine in the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct MachineReport {
    /// Its cores.
    pub cores: usize,
    /// CPU seconds per second that were not used by anybody.
    pub idle_cores: f64,
    /// CPU seconds per second that were used by others than broker and generators: whatever else runs there, and the
    /// system on nobody's behalf. Null where the broker's are not known.
    pub others_cores: Option<f64>,
    /// Milliseconds by which usage was read later than at the ends of the measured time, at most.
    pub readings_late_ms: f64,
}

/// A run with what its plots show.
#[derive(Debug, Clone)]
pub struct LoadOutcome {
    /// The figures.
    pub report: LoadReport,
    /// Counts and latencies over time.
    pub tally: Tally,
    /// All latencies, in microseconds.
    pub latency: Histogram<u64>,
}

/// Cores that others may use without disturbing a measurement: about what a machine at rest does.
const OTHERS_CORES_MAX: f64 = 0.15;
/// Lateness of a reading that shifts figures of usage by no more than some percent, in runs of seconds.
const READINGS_LATE_MS: f64 = 50.0;
/// Share of its time from which on a generator's one thread counts as busy.
pub(super) const BUSY: f64 = 0.95;
/// Lateness that is no more the timer's.
pub(super) const LATE_US: u64 = 1000;

impl LoadReport {
    /// What did not hold of what was promised.
    pub(super) fn judge(&mut self) {
        let mut failures = Vec::new();
        if self.settings.class == LoadClass::Reliable {
            for (count, what) in [
                (self.lost, "lost"),
                (self.duplicated, "duplicated"),
                (self.unexpected, "unexpected"),
                (self.miscounted_acks, "acknowledgements miscounted"),
                (self.unanswered, "events never acknowledged"),
            ] {
                if count > 0 {
                    failures.push(format!("{count} {what}"));
                }
            }
        }
        if self.deliveries == 0 {
            failures.push("nothing was delivered".to_owned());
        }
        if let Some(error) = &self.first_error {
            failures.push(format!("{} sessions broke, first {error}", self.broken_sessions));
        }
        self.passed = failures.is_empty();
        self.failures = failures;
    }

    /// What makes the figures say less about the broker than they seem to.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.generator.saturated {
            remarks.push("The generator was the bottleneck: these figures are its own as well.".to_owned());
        }
        if let Some(others) = self.machine.others_cores.filter(|others| *others > OTHERS_CORES_MAX) {
            remarks.push(format!(
                "Other processes used {others:.2} cores meanwhile: latencies and throughput are disturbed."
            ));
        }
        if self.machine.readings_late_ms > READINGS_LATE_MS {
            let late = self.machine.readings_late_ms;
            remarks
                .push(format!("The machine stood still: usage was read {late:.0} ms late, so its figures are void."));
        }
        remarks
    }

    pub(super) fn enter_balance(&mut self, balance: Balance) {
        self.deliveries = balance.received;
        self.lost = balance.lost;
        self.duplicated = balance.duplicated;
        self.unexpected = balance.unexpected;
    }
}
