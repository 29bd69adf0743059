//! The sum of many runs, and what is said of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{Findings, Outcome, SLOW_CONSUMERS, TROUBLES, ViolationKind, network::PacketCounts};

/// Failed seeds that are named in a report.
const FAILURES_NAMED_MAX: usize = 20;

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Report {
    seeds: u64,
    virtual_time: Duration,
    sums: Findings,
    packets: PacketCounts,
    troubles: BTreeMap<&'static str, u64>,
    failures: BTreeMap<u64, Vec<String>>,
    unrepeatable: BTreeSet<u64>,
}

impl Report {
    /// Adds the run of a seed.
    pub fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.virtual_time += outcome.virtual_time;
        self.sums.add_all(&outcome.findings);
        self.packets += outcome.packets;
        for (trouble, count) in &outcome.troubles {
            *self.troubles.entry(trouble).or_default() += count;
        }
        if !outcome.findings.violations().is_empty() {
            let words = outcome.findings.violations().iter().map(|violation| {
                format!("{:?} at {:.3} s: {}", violation.kind, violation.at.as_secs_f64(), violation.what)
            });
            self.failures.insert(seed, words.collect());
        }
    }

    /// Adds a seed that gave two different runs.
    pub fn add_unrepeatable(&mut self, seed: u64) {
        self.unrepeatable.insert(seed);
    }

    /// The seeds that gave two different runs.
    #[must_use]
    pub fn unrepeatable(&self) -> &BTreeSet<u64> {
        &self.unrepeatable
    }

    /// How often each kind of fault really happened.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        let packets = &self.packets;
        let mut faults: BTreeMap<_, _> =
            TROUBLES.iter().map(|name| (*name, self.troubles.get(name).copied().unwrap_or(0))).collect();
        faults.extend([
            ("packets_lost", packets.lost),
            ("packets_duplicated", packets.duplicated),
            ("packets_reordered", packets.reordered),
            ("bits_flipped", packets.bits_flipped),
            ("packets_partitioned", packets.partitioned),
            ("packets_partitioned_one_way", packets.partitioned_one_way),
            ("packets_held", packets.held),
            ("packets_too_long", packets.too_long),
        ]);
        faults
    }

    /// The kinds of fault that never happened.
    #[must_use]
    pub fn faults_missing(&self) -> Vec<&'static str> {
        self.faults().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    /// The seeds that broke a promise, with what happened.
    #[must_use]
    pub fn failures(&self) -> &BTreeMap<u64, Vec<String>> {
        &self.failures
    }

    /// All of it.
    #[must_use]
    pub fn json(&self) -> Value {
        let count = |kind| self.sums.count(kind);
        let due = self.sums.routed_due.max(1) as f64;
        let failures: Map<String, Value> = self
            .failures
            .iter()
            .take(FAILURES_NAMED_MAX)
            .map(|(seed, words)| (seed.to_string(), json!(words)))
            .collect();
        json!({
            "seeds": self.seeds,
            "schedules": self.seeds,
            "virtual_hours": self.virtual_time.as_secs_f64() / 3_600.0,
            "published": self.sums.published,
            "delivered": self.sums.delivered,
            "acked_routed": self.sums.acked_routed,
            "acked_processed": self.sums.acked_processed,
            "refused": self.sums.refused,
            "acked_lost": count(ViolationKind::AckedLost),
            "duplicated": count(ViolationKind::Duplicated),
            "unflagged_reorder": count(ViolationKind::UnflaggedReorder),
            "silent_gaps": count(ViolationKind::SilentGap),
            "stuck_after_heal": count(ViolationKind::Stuck),
            "phantoms": count(ViolationKind::Phantom),
            "gaps_shown": self.sums.gaps_shown,
            "interruptions_shown": self.sums.interruptions_shown,
            "slow_consumers_ended": self.troubles.get(SLOW_CONSUMERS).copied().unwrap_or(0),
            "resumed": self.sums.resumed,
            "routed_due": self.sums.routed_due,
            "routed_loss_on_crash": self.sums.routed_lost_on_crash as f64 / due,
            "routed_loss_with_notice": self.sums.routed_lost_with_notice as f64 / due,
            "packets": self.packets.sent,
            "unrepeatable": self.unrepeatable.len(),
            "faults": self.faults(),
            "failed_seeds": failures,
        })
    }
}
