//! What the generators say and what the system says, added up into one report.

use std::time::Duration;

use super::Reading;
use crate::{
    LatencyReport,
    load::{
        LoadSettings, Rate,
        books::Balance,
        orders::{Published, Received},
        report::{BUSY, BrokerReport, GeneratorReport, LATE_US, LoadOutcome, LoadReport, MachineReport},
        tally::{Tally, Window, latency_histogram},
        usage::Usage,
    },
};

/// The broker's memory before there was anything, and with all sessions idle.
pub(super) struct BrokerMemory {
    pub(super) before: Option<Usage>,
    pub(super) idle: Option<Usage>,
}

pub(super) fn add_up(
    settings: &LoadSettings,
    window: Window,
    memory: &BrokerMemory,
    [first, last]: &[Reading; 2],
    published: Published,
    received: Vec<Received>,
) -> LoadOutcome {
    let mut tally = Tally::new(window);
    let mut balance = Balance::default();
    let (mut moves, mut broken, mut first_error) = (0, 0, None);
    for part in received {
        tally.add(&part.tally);
        balance += part.balance;
        moves += part.moves;
        if let Some((count, error)) = part.broken {
            broken += count;
            first_error.get_or_insert(error);
        }
    }
    let latency = tally.latency();
    let events_s = published.within as f64 / settings.seconds;
    let deliveries_s = tally.counts().iter().sum::<u64>() as f64 / settings.seconds;
    let elapsed_s = Duration::from_nanos(last.at_ns - first.at_ns).as_secs_f64();
    let broker = broker_report(settings, memory, first, last, elapsed_s, deliveries_s);
    let generator = generator_report(&published, first, last, elapsed_s);
    let mut report = LoadReport {
        settings: settings.clone(),
        offered_events_s: match settings.rate {
            Rate::PerSecond(rate) => rate,
            Rate::Max => events_s,
        },
        events_s,
        deliveries_s,
        latency_us: (&latency).into(),
        events: published.by_publisher.iter().sum(),
        deliveries: 0,
        lost: 0,
        duplicated: 0,
        unexpected: 0,
        miscounted_acks: published.miscounted_acks,
        unanswered: published.unanswered,
        moves_s: moves as f64 / settings.seconds,
        held_back_s: published.held_back_s,
        frozen_sessions: settings.frozen,
        broken_sessions: broken,
        first_error,
        machine: machine_report(window, first, last, broker.cores.map(|broker| broker + generator.cores)),
        broker,
        generator,
        passed: false,
        failures: Vec::new(),
    };
    report.enter_balance(balance);
    report.judge();
    LoadOutcome { report, tally, latency }
}

fn broker_report(
    settings: &LoadSettings,
    memory: &BrokerMemory,
    first: &Reading,
    last: &Reading,
    elapsed_s: f64,
    deliveries_s: f64,
) -> BrokerReport {
    let Some((first, last)) = first.broker.zip(last.broker) else { return BrokerReport::default() };
    let mib = |usage: Usage| usage.rss_bytes as f64 / f64::from(1 << 20);
    let cores = (last.cpu_s - first.cpu_s) / elapsed_s;
    let added = memory.before.zip(memory.idle).map(|(before, idle)| idle.rss_bytes as f64 - before.rss_bytes as f64);
    BrokerReport {
        cpu_s_per_million_deliveries: (deliveries_s > 0.0).then(|| cores / deliveries_s * 1e6),
        cores: Some(cores),
        rss_mib: Some(mib(last)),
        rss_idle_mib: memory.idle.map(mib),
        rss_per_session_kib: added.map(|bytes| bytes / 1024.0 / f64::from(settings.sessions)),
    }
}

fn generator_report(published: &Published, first: &Reading, last: &Reading, elapsed_s: f64) -> GeneratorReport {
    let cores: Vec<f64> =
        first.generators.iter().zip(&last.generators).map(|(a, b)| (b.cpu_s - a.cpu_s) / elapsed_s).collect();
    let mut late = latency_histogram();
    published.late_us.add_to(&mut late);
    let late_us = LatencyReport::from(&late);
    GeneratorReport {
        cores: cores.iter().sum(),
        saturated: cores.iter().any(|cores| *cores >= BUSY) || late_us.p99 > LATE_US,
        publisher_cores: cores.first().copied().unwrap_or(0.0),
        session_cores_max: cores.iter().skip(1).copied().fold(0.0, f64::max),
        late_us,
    }
}

fn machine_report(window: Window, first: &Reading, last: &Reading, ours: Option<f64>) -> MachineReport {
    let elapsed_s = Duration::from_nanos(last.at_ns - first.at_ns).as_secs_f64();
    let late_ns = (first.at_ns - window.start_ns).max(last.at_ns - window.end_ns);
    let (used, all) = (last.machine.0 - first.machine.0, last.machine.1 - first.machine.1);
    MachineReport {
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        idle_cores: ((all - used) / elapsed_s).max(0.0),
        readings_late_ms: Duration::from_nanos(late_ns).as_secs_f64() * 1000.0,
        others_cores: ours.map(|ours| (used / elapsed_s - ours).max(0.0)),
    }
}
