//! What zonecast wants to reach, each as a ratio within one comparison.

use serde::{Deserialize, Serialize};

use crate::{
    peer::Peer,
    results::{CellResults, Row},
    statistics::{Summary, ratio},
};

/// What became of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// What is compared with what, and in which cell.
    pub(crate) words: String,
    /// The limit as one writes it.
    pub(crate) limit: String,
    /// None where one of the two was not measured.
    pub(crate) measured: Option<f64>,
    pub(crate) met: Option<bool>,
}

#[derive(Clone, Copy)]
enum Figure {
    Deliveries,
    DeliveriesPerReader,
    Cpu,
    P50,
    P99,
    SessionKib,
}

#[derive(Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure of zonecast in one cell, over that of somebody in a cell, or as it is.
struct Target {
    figure: Figure,
    cell: &'static str,
    over: Option<(Peer, &'static str)>,
    limit: Limit,
}

use Figure::{Cpu, Deliveries, DeliveriesPerReader, P50, P99, SessionKib};
use Limit::{AtLeast, AtMost};

/// The unpaced worlds in which the peers are compared.
const UNPACED: [&str; 4] = ["max-4x64", "max-4x256", "max-16x64", "max-16x256"];

fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    for cell in UNPACED {
        for (figure, peer, limit) in [
            (Deliveries, Peer::NatsTls, AtLeast(3.0)),
            (Deliveries, Peer::Grpc, AtLeast(1.3)),
            (Deliveries, Peer::Tcp, AtLeast(0.8)),
            (Cpu, Peer::NatsTls, AtMost(0.3)),
            (Cpu, Peer::Grpc, AtMost(0.9)),
            (Cpu, Peer::Tcp, AtMost(1.25)),
        ] {
            targets.push(Target { figure, cell, over: Some((peer, cell)), limit });
        }
    }
    for peer in [Peer::Nats, Peer::Grpc] {
        for figure in [P50, P99, Cpu] {
            targets.push(Target { figure, cell: "100k-4x64", over: Some((peer, "100k-4x64")), limit: AtMost(1.0) });
        }
    }
    let itself = |figure, cell, other, limit| Target { figure, cell, over: Some((Peer::Zonecast, other)), limit };
    targets.extend([
        Target { figure: P50, cell: "20k-4x64", over: Some((Peer::Nats, "20k-4x64")), limit: AtMost(1.2) },
        itself(Cpu, "max-4x64-1000s", "max-4x64", AtMost(1.3)),
        itself(Deliveries, "moving-max", "still-max", AtLeast(0.85)),
        itself(P99, "moving-100k", "still-100k", AtMost(1.5)),
        itself(DeliveriesPerReader, "frozen-max", "max-4x64", AtLeast(0.98)),
        itself(P99, "frozen-100k", "100k-4x64", AtMost(1.1)),
        Target { figure: SessionKib, cell: "max-4x64-1000s", over: None, limit: AtMost(64.0) },
        itself(Cpu, "max-4x1024", "max-4x64", AtMost(2.5)),
    ]);
    targets
}

/// Holds every target of which a cell was played against what was found.
pub(crate) fn judge(cells: &[CellResults]) -> Vec<Verdict> {
    let played = |name: &str| cells.iter().any(|cell| cell.name == name);
    targets().iter().filter(|target| played(target.cell)).map(|target| target.judge(cells)).collect()
}

impl Target {
    fn judge(&self, cells: &[CellResults]) -> Verdict {
        let find = |peer, name| {
            let row = cells.iter().find(|cell| cell.name == name)?.row(peer)?;
            self.figure.of(row).map(|summary| summary.median)
        };
        let ours = find(Peer::Zonecast, self.cell);
        let measured = match self.over {
            None => ours,
            Some((peer, cell)) => ratio(ours, find(peer, cell)),
        };
        let (sign, limit, met) = match self.limit {
            AtLeast(limit) => (">=", limit, measured.map(|measured| measured >= limit)),
            AtMost(limit) => ("<=", limit, measured.map(|measured| measured <= limit)),
        };
        let unit = if self.over.is_some() { "x" } else { " KiB" };
        Verdict { words: self.words(), limit: format!("{sign} {limit}{unit}"), measured, met }
    }

    fn words(&self) -> String {
        let (figure, cell) = (self.figure.words(), self.cell);
        match self.over {
            None => format!("{cell}: {figure}"),
            Some((Peer::Zonecast, other)) => format!("{cell}: {figure}, over {other}"),
            Some((peer, _)) => format!("{cell}: {figure}, over {peer}"),
        }
    }
}

impl Figure {
    fn of(self, row: &Row) -> Option<Summary> {
        match self {
            Deliveries => row.deliveries_s,
            DeliveriesPerReader => row.deliveries_s_per_reader,
            Cpu => row.broker_cpu_s_per_million,
            P50 => row.p50_us,
            P99 => row.p99_us,
            SessionKib => row.rss_per_session_kib,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Deliveries => "deliveries/s",
            DeliveriesPerReader => "deliveries/s per reading session",
            Cpu => "broker CPU per delivery",
            P50 => "p50",
            P99 => "p99",
            SessionKib => "broker memory per idle session",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cell::Cell,
        results::{Run, tests::report},
    };

    /// A cell in which each of these peers had so many deliveries per second, at 1 CPU second per million.
    fn cell(name: &str, deliveries_s: &[(Peer, f64)]) -> CellResults {
        let cell = &Cell::named(&[name.to_owned()], 2.0, 0.5).unwrap()[0];
        let runs = deliveries_s.iter().map(|(peer, deliveries_s)| {
            let report = report(cell.settings.clone(), *deliveries_s);
            (*peer, vec![Run { round: 1, report: Some(report), error: None }])
        });
        CellResults::of(cell, runs.collect())
    }

    #[test]
    fn targets_are_met_or_not_or_unknown() {
        let cell = cell("max-4x64", &[(Peer::Zonecast, 2.0e6), (Peer::Tcp, 2.0e6), (Peer::Grpc, 1.9e6)]);
        let verdicts = judge(&[cell]);
        let of = |words: &str| verdicts.iter().find(|verdict| verdict.words == words).unwrap();
        let tcp = of("max-4x64: deliveries/s, over tcp");
        assert_eq!((tcp.measured, tcp.met, tcp.limit.as_str()), (Some(1.0), Some(true), ">= 0.8x"));
        assert_eq!(of("max-4x64: deliveries/s, over grpc").met, Some(false));
        assert_eq!(of("max-4x64: broker CPU per delivery, over grpc").met, Some(false), "1.0 is more than 0.9");
        let nats = of("max-4x64: deliveries/s, over nats-tls");
        assert_eq!((nats.measured, nats.met), (None, None), "NATS did not take part");
        assert!(verdicts.iter().all(|verdict| verdict.words.starts_with("max-4x64:")), "nothing else was played");
    }

    #[test]
    fn every_target_names_a_cell_that_is_played_unless_somebody_says_otherwise() {
        let usual = Cell::named(&["usual".to_owned(), "zonecast".to_owned()], 2.0, 0.5).unwrap();
        for target in targets() {
            for name in [Some(target.cell), target.over.map(|(_, cell)| cell)].into_iter().flatten() {
                assert!(usual.iter().any(|cell| cell.name == name), "{name}");
            }
        }
    }
}
