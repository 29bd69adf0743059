//! `zonecast loadtest`: conducts a run, with a broker of its own or one that is there.

mod broker;

use std::{
    fs,
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::signal::unix::{SignalKind, signal};
use zonecast_loadtest::load::{
    Crew, GeneratorError, LoadOutcome, LoadProgress, LoadReport, LoadSettings, Secret, Stage, Zonecast, ZonecastTarget,
    conduct, generate, now_ns,
};

use crate::cli::{self, LoadtestArgs};
use broker::BrokerProcess;

/// The subcommand of a generator process; nobody else calls it.
pub(crate) const GENERATOR: &str = "loadtest-generator";

/// Runs the command.
///
/// # Errors
/// A setting makes no sense, the broker cannot be started or reached, or what was promised did not hold.
pub(crate) async fn run(args: LoadtestArgs) -> anyhow::Result<()> {
    let settings = args.settings();
    settings.check()?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be watched")?;
    let outcome = tokio::select! {
        outcome = perform(&args, &settings) => outcome?,
        // What is dropped takes its processes along.
        _ = terminate.recv() => anyhow::bail!("ended by SIGTERM"),
        _ = interrupt.recv() => anyhow::bail!("ended by SIGINT"),
    };
    if let Some(path) = &args.html {
        let page = outcome.html(&made_by());
        fs::write(path, page).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    print(&outcome.report, args.json)?;
    anyhow::ensure!(outcome.report.passed, "{}", outcome.report.failures.join("; "));
    Ok(())
}

/// A generator process.
///
/// # Errors
/// It could not go on; its conductor has been told.
pub(crate) async fn run_generator() -> Result<(), GeneratorError> {
    generate::<Zonecast>().await
}

async fn perform(args: &LoadtestArgs, settings: &LoadSettings) -> anyhow::Result<LoadOutcome> {
    let own = if args.connect.connect.is_empty() { Some(BrokerProcess::start(settings).await?) } else { None };
    let target = match &own {
        Some(broker) => broker.target(),
        None => elsewhere(args)?,
    };
    let executable = std::env::current_exe().context("this program cannot be found")?;
    let crew = Crew {
        generator: Box::new(move || {
            let mut command = tokio::process::Command::new(&executable);
            command.arg(GENERATOR);
            command
        }),
        target,
        broker_pids: own.as_ref().map(BrokerProcess::pid).into_iter().collect(),
    };
    let progress = Arc::new(LoadProgress::default());
    let bar = tokio::spawn(show(Arc::clone(&progress), settings.warm_up_s + settings.seconds));
    let outcome = conduct(settings, &crew, progress).await;
    bar.abort();
    match own {
        Some(broker) => broker.end(outcome).await,
        None => Ok(outcome?),
    }
}

fn elsewhere(args: &LoadtestArgs) -> anyhow::Result<ZonecastTarget> {
    let connect = &args.connect;
    let ca = connect.ca.clone().context("no authority to trust: give --ca FILE or set ZONECAST_CA")?;
    Ok(ZonecastTarget {
        addresses: connect.addresses().iter().map(ToString::to_string).collect(),
        server_name: connect.server_name.clone(),
        ca,
        identity: connect.cert.clone().zip(connect.key.clone()),
        token: connect.token.clone().map(Secret),
        token_file: connect.token_file.clone(),
    })
}

/// Who made a report, and when.
fn made_by() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
    format!("zonecast {}, {now}", cli::VERSION)
}

/// A progress bar, where somebody sees it.
async fn show(progress: Arc<LoadProgress>, seconds: f64) {
    if !io::stderr().is_terminal() {
        return;
    }
    let length_ms = Duration::from_secs_f64(seconds).as_millis().try_into().unwrap_or(u64::MAX);
    let bar = ProgressBar::new(length_ms);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {elapsed} {msg}") {
        bar.set_style(style);
    }
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        let started_ns = progress.start_ns();
        let since_ms = if started_ns == 0 { 0 } else { now_ns().saturating_sub(started_ns) / 1_000_000 };
        bar.set_position(since_ms.min(length_ms));
        let stage = match progress.stage() {
            Stage::Connecting => "connecting",
            Stage::Running => "running",
            Stage::Draining => "checking",
        };
        bar.set_message(format!("{stage}: {} events, {} deliveries", progress.events(), progress.deliveries()));
    }
}

fn print(report: &LoadReport, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(report)?)?;
        return Ok(());
    }
    let (latency, broker, generator) = (&report.latency_us, &report.broker, &report.generator);
    writeln!(
        out,
        "{:.0} events/s of {:.0} offered, {:.0} deliveries/s; latency in microseconds: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        report.events_s,
        report.offered_events_s,
        report.deliveries_s,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max
    )?;
    writeln!(
        out,
        "against brute force, of {} deliveries: {} lost, {} duplicated, {} unexpected, {} acknowledgements miscounted",
        report.deliveries, report.lost, report.duplicated, report.unexpected, report.miscounted_acks
    )?;
    match (broker.cpu_s_per_million_deliveries, broker.cores, broker.rss_mib, broker.rss_per_session_kib) {
        (per_million, Some(cores), Some(rss), Some(per_session)) => writeln!(
            out,
            "broker: {:.2} CPU s per million deliveries, {cores:.2} cores, {rss:.0} MiB, {per_session:.0} KiB per idle session",
            per_million.unwrap_or(f64::NAN)
        )?,
        _ => writeln!(out, "broker: not a process that was started here, so nothing is known of what it used")?,
    }
    writeln!(out, "generators: {:.2} cores, late by {} microseconds at p99", generator.cores, generator.late_us.p99)?;
    for remark in report.remarks() {
        writeln!(out, "{remark}")?;
    }
    Ok(())
}
