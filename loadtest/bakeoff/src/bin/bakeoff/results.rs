//! What a comparison found: every run, and what follows from them.

use serde::{Deserialize, Serialize};
use zonecast_loadtest::load::LoadReport;

use crate::{
    cell::Cell,
    peer::Peer,
    statistics::{Summary, ratio},
    targets::Verdict,
};

/// Everything, as `--json` writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) about: About,
    pub(crate) peers: Vec<PeerAbout>,
    pub(crate) cells: Vec<CellResults>,
    pub(crate) targets: Vec<Verdict>,
}

/// Where, when and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    /// RFC 3339, UTC.
    pub(crate) date: String,
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
}

/// Who took part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerAbout {
    pub(crate) peer: Peer,
    pub(crate) version: String,
    pub(crate) cipher: String,
    pub(crate) copies: String,
}

/// What was found in one world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CellResults {
    pub(crate) name: String,
    pub(crate) words: String,
    /// Whether there is a rate; unpaced, latencies are those of full queues.
    pub(crate) paced: bool,
    pub(crate) rows: Vec<Row>,
}

/// What was found of one peer in one world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) peer: Peer,
    pub(crate) deliveries_s: Option<Summary>,
    /// The same for each session that reads.
    pub(crate) deliveries_s_per_reader: Option<Summary>,
    pub(crate) broker_cpu_s_per_million: Option<Summary>,
    pub(crate) p50_us: Option<Summary>,
    pub(crate) p99_us: Option<Summary>,
    pub(crate) broker_rss_mib: Option<Summary>,
    pub(crate) rss_per_session_kib: Option<Summary>,
    /// This peer's medians over zonecast's.
    pub(crate) to_zonecast: Ratios,
    /// Of all runs together.
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) unexpected: u64,
    /// Runs in which the clients, not the broker, were the bottleneck.
    pub(crate) saturated_runs: usize,
    /// What did not hold, or why a run came to nothing, each once.
    pub(crate) failures: Vec<String>,
    pub(crate) runs: Vec<Run>,
}

/// One median over another; none where one of them is missing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Ratios {
    pub(crate) deliveries_s: Option<f64>,
    pub(crate) broker_cpu: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

/// One run: the report of the harness, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) round: u32,
    pub(crate) report: Option<LoadReport>,
    pub(crate) error: Option<String>,
}

impl CellResults {
    /// From all runs of a cell, by peer in the order of the table.
    pub(crate) fn of(cell: &Cell, runs: Vec<(Peer, Vec<Run>)>) -> Self {
        let mut rows: Vec<Row> = runs.into_iter().map(|(peer, runs)| Row::of(peer, runs)).collect();
        if let Some(zonecast) = rows.iter().find(|row| row.peer == Peer::Zonecast).cloned() {
            for row in &mut rows {
                row.to_zonecast = row.over(&zonecast);
            }
        }
        let paced = matches!(cell.settings.rate, zonecast_loadtest::load::Rate::PerSecond(_));
        Self { name: cell.name.clone(), words: cell.words(), paced, rows }
    }

    /// What was found of this peer.
    pub(crate) fn row(&self, peer: Peer) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer == peer)
    }
}

impl Row {
    fn of(peer: Peer, runs: Vec<Run>) -> Self {
        let reports = || runs.iter().filter_map(|run| run.report.as_ref());
        let summary = |of: &dyn Fn(&LoadReport) -> Option<f64>| Summary::of(reports().filter_map(of));
        let mut failures = Vec::new();
        for run in &runs {
            let of_report = run.report.iter().flat_map(|report| &report.failures);
            for failure in of_report.chain(&run.error) {
                if !failures.contains(failure) {
                    failures.push(failure.clone());
                }
            }
        }
        Self {
            peer,
            deliveries_s: summary(&|report| Some(report.deliveries_s)),
            deliveries_s_per_reader: summary(&|report| {
                let readers = report.settings.sessions - report.frozen_sessions;
                ratio(Some(report.deliveries_s), Some(f64::from(readers)))
            }),
            broker_cpu_s_per_million: summary(&|report| report.broker.cpu_s_per_million_deliveries),
            p50_us: summary(&|report| Some(report.latency_us.p50 as f64)),
            p99_us: summary(&|report| Some(report.latency_us.p99 as f64)),
            broker_rss_mib: summary(&|report| report.broker.rss_mib),
            rss_per_session_kib: summary(&|report| report.broker.rss_per_session_kib),
            to_zonecast: Ratios::default(),
            lost: reports().map(|report| report.lost).sum(),
            duplicated: reports().map(|report| report.duplicated).sum(),
            unexpected: reports().map(|report| report.unexpected).sum(),
            saturated_runs: reports().filter(|report| report.generator.saturated).count(),
            failures,
            runs,
        }
    }

    fn over(&self, other: &Self) -> Ratios {
        let of = |ours: &Option<Summary>, theirs: &Option<Summary>| {
            ratio(ours.map(|summary| summary.median), theirs.map(|summary| summary.median))
        };
        Ratios {
            deliveries_s: of(&self.deliveries_s, &other.deliveries_s),
            broker_cpu: of(&self.broker_cpu_s_per_million, &other.broker_cpu_s_per_million),
            p50: of(&self.p50_us, &other.p50_us),
            p99: of(&self.p99_us, &other.p99_us),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use zonecast_loadtest::{
        LatencyReport,
        load::{BrokerReport, GeneratorReport, LoadSettings, MachineReport},
    };

    use super::*;

    /// A report with so many deliveries per second at 1 broker CPU second per million.
    pub(crate) fn report(settings: LoadSettings, deliveries_s: f64) -> LoadReport {
        LoadReport {
            offered_events_s: deliveries_s / settings.fan_out,
            events_s: deliveries_s / settings.fan_out,
            deliveries_s,
            latency_us: LatencyReport { p50: 200, p90: 400, p99: 800, p999: 900, max: 1000 },
            events: 10,
            deliveries: 40,
            lost: 1,
            duplicated: 0,
            unexpected: 0,
            miscounted_acks: 0,
            unanswered: 0,
            moves_s: 0.0,
            held_back_s: 0.0,
            frozen_sessions: settings.frozen,
            broken_sessions: 0,
            first_error: None,
            broker: BrokerReport { cpu_s_per_million_deliveries: Some(1.0), ..BrokerReport::default() },
            generator: GeneratorReport::default(),
            machine: MachineReport::default(),
            passed: false,
            failures: vec!["1 lost".to_owned()],
            settings,
        }
    }

    #[test]
    fn a_row_has_medians_sums_and_ratios_to_zonecast() {
        let cell = &Cell::named(&["max-4x64".to_owned()], 2.0, 0.5).unwrap()[0];
        let run =
            |round, deliveries_s| Run { round, report: Some(report(cell.settings.clone(), deliveries_s)), error: None };
        let broken = Run { round: 3, report: None, error: Some("gone".to_owned()) };
        let runs = vec![
            (Peer::Zonecast, vec![run(1, 1.0e6), run(2, 3.0e6), run(3, 2.0e6)]),
            (Peer::Tcp, vec![run(1, 4.0e6), run(2, 6.0e6), broken]),
        ];
        let results = CellResults::of(cell, runs);
        let tcp = results.row(Peer::Tcp).unwrap();
        assert_eq!(tcp.deliveries_s, Some(Summary { median: 5.0e6, min: 4.0e6, max: 6.0e6, count: 2 }));
        assert_eq!(tcp.deliveries_s_per_reader.unwrap().median, 5.0e6 / 32.0);
        assert_eq!(tcp.to_zonecast.deliveries_s, Some(2.5));
        assert_eq!(tcp.to_zonecast.p50, Some(1.0));
        assert_eq!((tcp.lost, tcp.duplicated), (2, 0));
        assert_eq!(tcp.failures, ["1 lost", "gone"]);
        assert_eq!(results.row(Peer::Zonecast).unwrap().to_zonecast.deliveries_s, Some(1.0));
        assert!(!results.paced);
    }
}
