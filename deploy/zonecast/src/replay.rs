//! `zonecast replay`: recorded events through a broker, checked against brute force.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use zonecast_broker::BrokerConfig;
use zonecast_loadtest::{EventFile, Pace, Progress, ReplayOptions, Report, SortedLines, WorldFile, replay};

use crate::{
    cli::{ReplayArgs, Speed},
    connecting::Connector,
    local_broker::LocalBroker,
};

impl From<Speed> for Pace {
    fn from(speed: Speed) -> Self {
        match speed {
            Speed::Times(times) => Self::Times(times),
            Speed::Max => Self::Max,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A file is not what it should be, the broker cannot be reached, or what arrived is not what should have.
pub(crate) async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let world = WorldFile::open(&args.zones)?;
    // Read once before anything is sent: a bad row is then found while nothing has happened yet.
    let total = EventFile::open(&args.events)?.try_fold(0_u64, |count, row| row.map(|_| count + 1))?;
    let events = EventFile::open(&args.events)?;
    let out = args.out.as_deref().map(create).transpose()?;
    let options = ReplayOptions { world: args.world.clone(), pace: args.speed.into(), out };
    let progress = Arc::new(Progress::default());
    let bar = tokio::spawn(show(Arc::clone(&progress), total));
    let report = if args.connect.connect.is_empty() {
        let local = LocalBroker::start(args.workers, |config| make_room(config, &world)).await?;
        let report = replay(&world, events, |id| local.client(id), options, progress).await;
        local.broker.shutdown().await;
        report
    } else {
        let connector = Connector::new(&args.connect)?;
        replay(&world, events, |id| connector.client(id), options, progress).await
    };
    bar.abort();
    let report = report?;
    print(&report, args.json)?;
    anyhow::ensure!(report.is_exact(), "what arrived is not what should have; see the report");
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<SortedLines> {
    SortedLines::create(path).with_context(|| format!("{} cannot be written", path.display()))
}

/// A broker of our own takes whatever world it is given.
fn make_room(config: &mut BrokerConfig, world: &WorldFile) {
    let mut zones = vec![0_u32; world.sessions.len()];
    for row in &world.zones {
        zones[row.session] += 1;
    }
    // One more than the file has: the zone in which the end is announced.
    let most = zones.into_iter().max().unwrap_or(0) + 1;
    config.limits.zones_per_session_max = config.limits.zones_per_session_max.max(most);
    config.limits.radius_max = config.limits.coordinate_abs_max;
    config.connections.connections_max = config.connections.connections_max.max(world.sessions.len() + 1);
    config.connections.connections_per_address_max = config.connections.connections_max;
}

/// A progress bar, where somebody sees it.
async fn show(progress: Arc<Progress>, total: u64) {
    if !io::stderr().is_terminal() {
        return;
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} events, {msg}, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        bar.set_position(progress.events());
        bar.set_message(format!("{} deliveries", progress.deliveries()));
    }
}

/// Prints a report, as JSON or for people.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(report: &Report, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    let latency = &report.latency_us;
    writeln!(
        out,
        "{} events over {} zones of {} sessions in {:.2} s: {} deliveries, {} events reached nobody",
        report.events, report.zones, report.sessions, report.elapsed_s, report.deliveries, report.unmatched_events
    )?;
    writeln!(
        out,
        "against brute force: {} lost, {} duplicated, {} unexpected, {} acknowledgements miscounted",
        report.lost, report.duplicated, report.unexpected, report.miscounted_acks
    )?;
    writeln!(
        out,
        "latency in microseconds: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    )?;
    Ok(())
}
