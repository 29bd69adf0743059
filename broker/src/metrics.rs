//! What Prometheus reads: the workers' counts, added up when it asks.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use zonecast_core::DurationHistogram;
use zonecast_protocol::code_label;

use crate::{stats::Snapshot, worker::Shared};

/// The text format of `OpenMetrics`.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label of the worlds beyond the bound.
const OTHER_WORLDS: &str = "other";

/// The metrics of a broker as text.
pub(crate) fn render(shared: &Shared, snapshots: &[Snapshot]) -> String {
    let totals = Totals::of(shared, snapshots);
    let mut registry = Registry::with_prefix("zonecast");
    registry.register_collector(Box::new(totals));
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

/// Names, help and values of metrics without labels.
type Plain = Vec<(&'static str, &'static str, u64)>;

/// All metrics, by name, ready to be written.
#[derive(Debug, Default)]
struct Totals {
    gauges: Plain,
    counters: Plain,
    /// Name, help, label, and the label's values with their counts.
    families: Vec<(&'static str, &'static str, &'static str, BTreeMap<String, u64>)>,
    gauge_families: Vec<(&'static str, &'static str, &'static str, BTreeMap<String, u64>)>,
    /// Name, help, the histogram, and the seconds that one of its units is.
    histograms: Vec<(&'static str, &'static str, DurationHistogram, f64)>,
}

impl Totals {
    fn of(shared: &Shared, snapshots: &[Snapshot]) -> Self {
        let total = |field: fn(&Snapshot) -> u64| snapshots.iter().map(field).sum::<u64>();
        // The interest table is the same everywhere; one worker may be a change ahead.
        let newest = snapshots.iter().max_by_key(|snapshot| snapshot.epoch);
        let held = |field: fn(&Snapshot) -> u64| newest.map_or(0, field);
        let freshness = shared.config.trust_upkeep.freshness();
        let gauges = vec![
            ("connections", "Connections that are open", shared.admission.connections() as u64),
            ("handshakes", "Handshakes under way", shared.admission.handshakes() as u64),
            ("sessions", "Sessions that are live", total(|s| s.sessions as u64)),
            ("zones", "Zones held by sessions", held(|s| s.zones as u64)),
            ("topic_subscriptions", "Topic subscriptions held by sessions", held(|s| s.topics as u64)),
            ("queue_deliveries", "Deliveries that wait in outboxes", total(|s| s.queue_deliveries as u64)),
            ("queue_bytes", "Bytes of events that wait in outboxes", total(|s| s.queue_bytes as u64)),
            (
                "sessions_without_link",
                "Sessions that are kept without a connection",
                shared.admission.detached() as u64,
            ),
            ("kept_deliveries", "Deliveries written and not acknowledged", total(|s| s.kept_deliveries as u64)),
            (
                "held_bytes",
                "Bytes of events and control frames that wait or are not acknowledged",
                total(|s| s.held_bytes as u64),
            ),
            ("publishes_unprocessed", "Publishes that wait to be processed", total(|s| s.tickets as u64)),
            (
                "tls_certificate_expiry_timestamp_seconds",
                "When the broker's certificate expires, in seconds since 1970; 0 when that cannot be read",
                shared.serving.expires_at().unwrap_or(0),
            ),
            (
                "token_keys_read_timestamp_seconds",
                "When the keys for tokens were read last, in seconds since 1970; 0 for never",
                freshness.keys_read_at(),
            ),
            (
                "token_revocations_read_timestamp_seconds",
                "When the revocations were read last, in seconds since 1970; 0 for never",
                freshness.revocations_read_at(),
            ),
            ("interest_epoch", "Number of the latest change of interest", held(|s| s.epoch)),
        ];
        let mut totals = Self { gauges, counters: counters(&total), ..Self::default() };
        totals.add_families(shared, snapshots);
        let merged = |field: fn(&Snapshot) -> &DurationHistogram| {
            let mut sum = DurationHistogram::default();
            snapshots.iter().for_each(|snapshot| sum.merge(field(snapshot)));
            sum
        };
        let match_help = "Time to match an event against the interest table; one event in 64 is measured";
        let residence_help = "Time from an event's arrival at the broker to its writing to a receiver's stream";
        totals.histograms = vec![
            ("match", match_help, merged(|s| &s.stats.matching), 1e-9),
            ("delivery_residence", residence_help, merged(|s| &s.stats.residence), 1e-6),
        ];
        totals
    }

    fn add_families(&mut self, shared: &Shared, snapshots: &[Snapshot]) {
        let mut by_class = BTreeMap::new();
        let (mut refusals, mut ended, mut failed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut drops, mut settled, mut tokens) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for Snapshot { stats, .. } in snapshots {
            for (class, count) in [
                ("reliable", stats.events_in.reliable),
                ("state", stats.events_in.state),
                ("transient", stats.events_in.transient),
            ] {
                *by_class.entry(class.to_owned()).or_default() += count;
            }
            for (reason, count) in [
                ("slow_consumer", stats.dropped_transient),
                ("session_ended", stats.dropped_at_end),
                ("state_replaced", stats.state_replaced),
                ("poison", stats.poisoned),
            ] {
                *drops.entry(reason.to_owned()).or_default() += count;
            }
            *settled.entry("processed".to_owned()).or_default() += stats.processed;
            for (code, count) in &stats.unprocessed {
                *settled.entry(code_label(*code).to_owned()).or_default() += count;
            }
            for (code, count) in &stats.refusals {
                *refusals.entry(code_label(*code).to_owned()).or_default() += count;
            }
            for (end, count) in &stats.sessions_ended {
                *ended.entry((*end).to_owned()).or_default() += count;
            }
            for (result, count) in &stats.tokens {
                *tokens.entry((*result).to_owned()).or_default() += count;
            }
            for (reason, count) in &stats.handshakes_failed {
                *failed.entry((*reason).to_owned()).or_default() += count;
            }
        }
        let (reloaded, unusable) = shared.serving.reloads();
        let reloads = BTreeMap::from([("ok".to_owned(), reloaded), ("failed".to_owned(), unusable)]);
        let (world_zones, world_events) = by_world(snapshots, shared.config.worlds_labelled_max);
        self.families = vec![
            ("events_in", "Events accepted from publishers", "class", by_class),
            ("drops", "Deliveries that were not written", "reason", drops),
            ("publishes_settled", "Publishes that waited to be processed, by what became of them", "result", settled),
            ("refusals", "Requests and publishes refused", "code", refusals),
            ("sessions_ended", "Sessions that ended", "code", ended),
            ("handshakes_failed", "Connections that came to no session", "reason", failed),
            ("token_checks", "Tokens shown at a hello or to renew a session, by what came of it", "result", tokens),
            ("tls_reloads", "Times that new certificates were to be taken", "result", reloads),
        ];
        // Gauges both: a world's count ends with its last zone, and worlds change places with `other`.
        self.gauge_families = vec![
            ("world_zones", "Zones of a world", "world", world_zones),
            ("world_events", "Events routed to a world since its first zone came", "world", world_events),
        ];
    }
}

fn counters(total: &impl Fn(fn(&Snapshot) -> u64) -> u64) -> Plain {
    vec![
        ("retries_out", "Handshakes put off by a Retry", total(|s| s.stats.retries_out)),
        ("sessions_opened", "Sessions that began", total(|s| s.stats.sessions_opened)),
        ("events_unmatched", "Events that reached nobody", total(|s| s.stats.events_unmatched)),
        ("event_bytes_in", "Bytes of events accepted", total(|s| s.stats.event_bytes_in)),
        ("deliveries_queued", "Deliveries put into outboxes", total(|s| s.stats.deliveries_queued)),
        ("deliveries_out", "Deliveries written to receivers' streams", total(|s| s.stats.deliveries_out)),
        ("delivery_bytes_out", "Bytes written to delivery streams", total(|s| s.stats.delivery_bytes_out)),
        ("datagrams_out", "Deliveries sent as datagrams", total(|s| s.stats.datagrams_out)),
        ("sessions_detached", "Sessions kept when their link was lost", total(|s| s.stats.sessions_detached)),
        ("sessions_resumed", "Sessions that went on over a new link", total(|s| s.stats.sessions_resumed)),
        ("gaps_out", "Gaps announced to receivers", total(|s| s.stats.gaps_out)),
        ("publishers_held", "Times that a lane was held back for a slow receiver", total(|s| s.stats.publishers_held)),
        (
            "publishers_let_go",
            "Times that a receiver acknowledged nothing for so long that lanes were not held back for it any more",
            total(|s| s.stats.publishers_let_go),
        ),
        (
            "publishers_ahead_of_rate",
            "Times that a client was held back because it published faster than it may",
            total(|s| s.stats.publishers_ahead_of_rate),
        ),
        ("worker_hand_overs", "Events handed from one worker to another", total(|s| s.stats.hand_overs)),
    ]
}

/// Zones and events by world: the worlds with most zones under their names, the rest together.
fn by_world(snapshots: &[Snapshot], labelled_max: usize) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let mut worlds = BTreeMap::<&str, (u64, u64)>::new();
    for snapshot in snapshots {
        for (name, zones, events) in &snapshot.worlds {
            let world = worlds.entry(name).or_default();
            world.0 = world.0.max(*zones as u64);
            world.1 += events;
        }
    }
    let mut ranked: Vec<_> = worlds.into_iter().collect();
    ranked.sort_by(|(a, (a_zones, _)), (b, (b_zones, _))| b_zones.cmp(a_zones).then(a.cmp(b)));
    let (mut zones, mut events) = (BTreeMap::new(), BTreeMap::new());
    for (rank, (name, (zone_count, event_count))) in ranked.into_iter().enumerate() {
        let label = if rank < labelled_max { name } else { OTHER_WORLDS };
        *zones.entry(label.to_owned()).or_default() += zone_count;
        *events.entry(label.to_owned()).or_default() += event_count;
    }
    (zones, events)
}

impl Collector for Totals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in &self.gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)?;
        }
        for (name, help, value) in &self.counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
        }
        for (name, help, label, values) in &self.families {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in values {
                let labels = [(*label, value.as_str())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(count, None)?;
            }
        }
        for (name, help, label, values) in &self.gauge_families {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (value, count) in values {
                metric.encode_family(&[(*label, value.as_str())])?.encode_gauge(count)?;
            }
        }
        for (name, help, histogram, unit_seconds) in &self.histograms {
            let metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            encode_histogram(metric, histogram, *unit_seconds)?;
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss)]
fn encode_histogram(
    mut metric: prometheus_client::encoding::MetricEncoder<'_>,
    histogram: &DurationHistogram,
    unit_seconds: f64,
) -> Result<(), fmt::Error> {
    let bounds =
        histogram.buckets().map(|(bound, count)| (bound.map_or(f64::INFINITY, |b| b as f64 * unit_seconds), count));
    let buckets: Vec<_> = bounds.collect();
    let sum = histogram.sum() as f64 * unit_seconds;
    metric.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(worlds: &[(&str, usize, u64)]) -> Snapshot {
        let worlds = worlds.iter().map(|(name, zones, events)| ((*name).to_owned(), *zones, *events)).collect();
        Snapshot { worlds, ..Snapshot::default() }
    }

    #[test]
    fn world_labels_are_bounded() {
        let snapshots = [snapshot(&[("a", 1, 5), ("b", 9, 1), ("c", 2, 7)]), snapshot(&[("b", 9, 2), ("c", 2, 1)])];
        let (zones, events) = by_world(&snapshots, 1);
        assert_eq!(zones, BTreeMap::from([("b".to_owned(), 9), ("other".to_owned(), 3)]));
        assert_eq!(events, BTreeMap::from([("b".to_owned(), 3), ("other".to_owned(), 13)]));
    }
}
