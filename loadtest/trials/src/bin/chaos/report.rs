//! The figures of a run, for people and for programs.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use zonecast_trials::ViolationKind;

use crate::{field::Field, options::Options, replay::Verdict};

/// All that came of a run.
pub(crate) struct Outcome<'a> {
    pub(crate) options: &'a Options,
    pub(crate) field: &'a Field,
    pub(crate) verdict: Verdict,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) figures: Map<String, Value>,
    pub(crate) breaches: Vec<String>,
    pub(crate) not_run: Vec<String>,
    pub(crate) rss_max_bytes: u64,
    pub(crate) took: Duration,
}

/// Prints it. `Ok(false)` when something must not be.
///
/// # Errors
/// There is nobody to read it.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the command is for")]
pub(crate) fn print(outcome: Outcome<'_>) -> anyhow::Result<bool> {
    for violation in outcome.verdict.findings.violations() {
        eprintln!("{:>7.1} s  VIOLATION {:?}: {}", violation.at.as_secs_f64(), violation.kind, violation.what);
    }
    let is_sound = outcome.breaches.is_empty() && outcome.verdict.findings.counts().next().is_none();
    let as_json = outcome.options.json;
    let figures = figures(outcome);
    if as_json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        for (name, value) in &figures {
            println!("{name:24} {value}");
        }
    }
    eprintln!("{}", if is_sound { "nothing was lost in silence" } else { "PROMISES WERE BROKEN: see above" });
    Ok(is_sound)
}

fn figures(outcome: Outcome<'_>) -> Map<String, Value> {
    let findings = &outcome.verdict.findings;
    let due = findings.routed_due.max(1) as f64;
    let mut resumed = outcome.verdict.resumed_in;
    let own = json!({
        "seconds": outcome.options.seconds,
        "took_seconds": outcome.took.as_secs(),
        "seed": outcome.options.seed,
        "field": if outcome.field.can_lose_packets() { "namespaces" } else { "loopback" },
        "published": findings.published,
        "delivered": findings.delivered,
        "acked_routed": findings.acked_routed,
        "acked_processed": findings.acked_processed,
        "refused": outcome.verdict.refusals,
        "acked_lost": findings.count(ViolationKind::AckedLost),
        "duplicated": findings.count(ViolationKind::Duplicated),
        "unflagged_reorder": findings.count(ViolationKind::UnflaggedReorder),
        "late_unannounced": outcome.verdict.late_unannounced,
        "silent_gaps": findings.count(ViolationKind::SilentGap),
        "stuck_after_heal": findings.count(ViolationKind::Stuck),
        "phantoms": findings.count(ViolationKind::Phantom),
        "routed_due": findings.routed_due,
        "routed_loss_on_crash": findings.routed_lost_on_crash as f64 / due,
        "routed_loss_with_notice": findings.routed_lost_with_notice as f64 / due,
        "gaps_shown": findings.gaps_shown,
        "interruptions_shown": findings.interruptions_shown,
        "faults": outcome.faults,
        "resumed": resumed.len(),
        "begun_anew": outcome.verdict.begun_anew,
        "resume_ms": {"p50": millis(quantile(&mut resumed, 0.5)), "p99": millis(quantile(&mut resumed, 0.99))},
        "rss_max_mib": outcome.rss_max_bytes >> 20,
        "breaches": outcome.breaches,
        "not_run": outcome.not_run,
    });
    let mut figures = match own {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    figures.extend(outcome.figures);
    figures
}

/// The quantile of some times, which are put in order for it.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> Option<Duration> {
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    // Rounded up, so that few times give the greatest rather than none.
    let place = (share * last as f64).ceil();
    times.get(place as usize).copied()
}

/// In milliseconds with three digits; null when there is none.
pub(crate) fn millis(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!((time.as_secs_f64() * 1e6).round() / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_among_the_times() {
        let mut times: Vec<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut times, 0.5), Some(Duration::from_millis(51)));
        assert_eq!(quantile(&mut times, 0.99), Some(Duration::from_millis(100)));
        assert_eq!(quantile(&mut times[..2], 0.5), Some(Duration::from_millis(2)));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
