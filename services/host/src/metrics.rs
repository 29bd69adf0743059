//! What Prometheus reads.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use tokio::sync::watch;
use zonecast_access::Freshness;
use zonecast_doors::RpcMetrics;
use zonecast_store::outbox::{FollowerCounts, RelayCounts, RelayStats};

use crate::{Followers, definition::Following};

/// The text format of `OpenMetrics`.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The relays of all stores, and whether the broker is there.
#[derive(Debug, Clone)]
pub(crate) struct Outboxes {
    pub(crate) relays: Vec<(&'static str, Arc<RelayStats>)>,
    pub(crate) followers: Followers,
    pub(crate) broker_is_connected: Arc<AtomicBool>,
    /// True while no calls by the broker are taken.
    pub(crate) calls_are_shut: watch::Receiver<bool>,
}

/// Everything that a host counts.
pub(crate) fn registry(rpcs: &RpcMetrics, freshness: Arc<Freshness>, outboxes: Outboxes) -> Registry {
    let mut registry = Registry::with_prefix("zonecast");
    rpcs.register(&mut registry);
    registry.register_collector(Box::new(Verifying(freshness)));
    registry.register_collector(Box::new(outboxes));
    registry
}

/// As text.
pub(crate) fn render(registry: &Registry) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut out, registry);
    out
}

/// A number of one store.
struct Value(Number);

enum Number {
    Count(u64),
    Level(f64),
}

impl EncodeMetric for Value {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self.0 {
            Number::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(&count, None),
            Number::Level(level) => encoder.encode_gauge(&level),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self.0 {
            Number::Count(_) => MetricType::Counter,
            Number::Level(_) => MetricType::Gauge,
        }
    }
}

/// Name, help, unit, and the number.
type Row = (&'static str, &'static str, Option<Unit>, fn(&RelayCounts) -> Number);

const ROWS: [Row; 5] = [
    ("outbox_published", "Changes published and processed", None, |counts| Number::Count(counts.published)),
    (
        "outbox_parked",
        "Changes that are kept and published no more, until somebody has looked at them",
        None,
        |counts| Number::Count(counts.parked),
    ),
    ("outbox_setbacks", "Times that publishing changes had to be tried again", None, |counts| {
        Number::Count(counts.setbacks)
    }),
    ("outbox_oldest", "Age of the oldest change that waits to be published", Some(Unit::Seconds), |counts| {
        Number::Level(counts.oldest_seconds)
    }),
    ("outbox_lease", "Whether this process publishes the store's changes", None, |counts| {
        Number::Level(f64::from(u8::from(counts.holds_lease)))
    }),
];

/// The same of a follower.
type FollowerRow = (&'static str, &'static str, fn(&FollowerCounts) -> Number);

const FOLLOWER_ROWS: [FollowerRow; 5] = [
    ("follower_handled", "Changes of another service's store that were handled", |counts| {
        Number::Count(counts.handled)
    }),
    ("follower_missed", "Changes of another service's store that were gone before they were read", |counts| {
        Number::Count(counts.missed)
    }),
    ("follower_setbacks", "Times that handling a change had to be tried again", |counts| {
        Number::Count(counts.setbacks)
    }),
    ("follower_behind", "Changes of another service's store that wait to be handled", |counts| {
        Number::Level(counts.behind as f64)
    }),
    ("follower_lease", "Whether this process handles the changes of another service's store", |counts| {
        Number::Level(f64::from(u8::from(counts.holds_lease)))
    }),
];

impl Outboxes {
    fn encode_followers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let followers = self.followers.all();
        for (name, help, number) in &FOLLOWER_ROWS {
            let value = |following: &Following| Value(number(&following.stats.counts()));
            let Some(first) = followers.first() else { continue };
            let mut family = encoder.encode_descriptor(name, help, None, value(first).metric_type())?;
            for following in &followers {
                let labels = [("consumer", following.consumer), ("store", following.store)];
                value(following).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// What callers' tokens are verified by. As the broker's are called.
#[derive(Debug)]
struct Verifying(Arc<Freshness>);

impl Collector for Verifying {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut write = |name, help, at_s: u64| {
            Value(Number::Level(at_s as f64)).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        write(
            "token_keys_read_timestamp_seconds",
            "When the keys for tokens were read last, in seconds since 1970; 0 for never",
            self.0.keys_read_at(),
        )?;
        write(
            "token_revocations_read_timestamp_seconds",
            "When the revocations were read last, in seconds since 1970; 0 for never",
            self.0.revocations_read_at(),
        )
    }
}

impl Collector for Outboxes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let connected = f64::from(u8::from(self.broker_is_connected.load(Relaxed)));
        let help = "Whether the services are connected to the broker";
        let connected = Value(Number::Level(connected));
        connected.encode(encoder.encode_descriptor("services_broker_connected", help, None, MetricType::Gauge)?)?;
        let taken = Value(Number::Level(f64::from(u8::from(!*self.calls_are_shut.borrow()))));
        let help = "Whether calls are taken by the broker";
        taken.encode(encoder.encode_descriptor("services_broker_calls_taken", help, None, MetricType::Gauge)?)?;
        for (name, help, unit, number) in &ROWS {
            let values: Vec<_> =
                self.relays.iter().map(|(store, stats)| (*store, Value(number(&stats.counts())))).collect();
            let Some((_, first)) = values.first() else { continue };
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), first.metric_type())?;
            for (store, value) in &values {
                value.encode(family.encode_family(&[("store", *store)])?)?;
            }
        }
        self.encode_followers(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_has_its_numbers() {
        let relays = vec![("users", Arc::default()), ("auth", Arc::default())];
        let outboxes = Outboxes {
            relays,
            followers: Followers::of(&[("characters", "users"), ("auth", "users")]),
            broker_is_connected: Arc::new(AtomicBool::new(true)),
            calls_are_shut: watch::channel(false).1,
        };
        let freshness = Arc::new(Freshness::default());
        freshness.revocations_read(1_800_000_000);
        let text = render(&registry(&RpcMetrics::default(), freshness, outboxes));
        for line in [
            "zonecast_outbox_published_total{store=\"users\"} 0",
            "zonecast_outbox_published_total{store=\"auth\"} 0",
            "zonecast_outbox_oldest_seconds{store=\"auth\"} 0.0",
            "zonecast_services_broker_connected 1.0",
            "zonecast_services_broker_calls_taken 1.0",
            "zonecast_follower_handled_total{consumer=\"auth\",store=\"users\"} 0",
            "zonecast_follower_behind{consumer=\"characters\",store=\"users\"} 0.0",
            "zonecast_rpcs_under_way 0",
            "zonecast_token_keys_read_timestamp_seconds 0.0",
            "zonecast_token_revocations_read_timestamp_seconds 1800000000.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
