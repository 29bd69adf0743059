//! `zonecast dev`: a broker with a world that lives, in one process, with nothing to set up.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use zonecast_loadtest::{
    EventFile, EventRow, InputError, Progress, ReplayOptions, Report, SAMPLE_EVENTS, SAMPLE_ZONES, WorldFile, replay,
};
use zonecast_protocol::WorldName;

use zonecast_host::Host;

use crate::{cli::DevArgs, local_broker::LocalBroker, local_services, replay as replay_command};

/// The world of the sample.
const WORLD: &str = "earth";

/// Runs the command.
///
/// # Errors
/// An address is in use, or standard output cannot be written.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let world = WorldFile::read("zones.csv", SAMPLE_ZONES.as_bytes())?;
    let local = LocalBroker::start(args.workers, |config| {
        config.listen = args.listen;
        config.admin_listen = Some(args.admin_listen);
    })
    .await?;
    let directory = tempfile::Builder::new().prefix("zonecast-dev-").tempdir().context("no temporary directory")?;
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &local.pem.ca).with_context(|| format!("{} cannot be written", ca.display()))?;
    let data = args.data.as_deref().unwrap_or(directory.path());
    std::fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let services = local_services::start(&local, args.services_listen, data).await?;
    let mut told: Box<dyn Write> = if args.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    introduce(&mut told, &local, &world, &ca)?;
    introduce_services(&mut told, &services, &ca)?;

    let report = play(&args, &world, &local, &mut told).await?;
    services.shutdown().await;
    local.broker.shutdown().await;
    replay_command::print(&report, args.json)?;
    anyhow::ensure!(report.is_exact(), "what arrived is not what should have; see the report");
    Ok(())
}

/// Plays the sample until the end is asked for, and shows how it goes.
async fn play(args: &DevArgs, world: &WorldFile, local: &LocalBroker, told: &mut impl Write) -> anyhow::Result<Report> {
    let progress = Arc::new(Progress::default());
    let options = ReplayOptions { world: WorldName::new(WORLD)?, pace: args.speed.into(), out: None };
    let playing = replay(world, again_and_again(), |id| local.client(id), options, Arc::clone(&progress));
    tokio::pin!(playing);
    let mut show = tokio::time::interval(Duration::from_secs(1));
    let table = Table { live: !args.json && io::stdout().is_terminal(), begun: Instant::now() };
    let end = ended(args.seconds);
    tokio::pin!(end);
    let mut stopping = false;
    let report = loop {
        tokio::select! {
            report = &mut playing => break report?,
            () = &mut end, if !stopping => {
                stopping = true;
                progress.stop();
            }
            _ = show.tick() => table.show(told, &progress)?,
        }
    };
    if table.live {
        writeln!(told)?;
    }
    Ok(report)
}

/// Says where everything is and what to try.
fn introduce(told: &mut impl Write, local: &LocalBroker, world: &WorldFile, ca: &Path) -> anyhow::Result<()> {
    let (listen, ca) = (local.broker.local_addr(), ca.display());
    writeln!(
        told,
        "zonecast dev: a broker, and a week of real earthquakes over the zones of {} countries",
        world.sessions.len()
    )?;
    writeln!(told)?;
    writeln!(told, "  broker   {listen} (QUIC over UDP, certificate for this run only, authority in {ca})")?;
    if let Some(admin) = local.broker.admin_addr() {
        writeln!(told, "  admin    http://{admin}/metrics  http://{admin}/ready  http://{admin}/live")?;
    }
    writeln!(told)?;
    writeln!(told, "Try, in other terminals:")?;
    writeln!(told, "  export ZONECAST_CONNECT={listen} ZONECAST_CA={ca}")?;
    writeln!(
        told,
        "  zonecast sub --zone {WORLD}:-14000,3000,-12000,6000      # quakes felt at the west coast of North America"
    )?;
    writeln!(told, "  zonecast sub --topic 'chat.>'")?;
    writeln!(told, "  zonecast pub --topic chat.hello 'hi there'")?;
    writeln!(told, "  zonecast pub --world {WORLD} --at -13000,4000 --radius 200 --kind quake 'the big one'")?;
    Ok(())
}

/// Says where the services are and what to try with them.
fn introduce_services(told: &mut impl Write, services: &Host, ca: &Path) -> anyhow::Result<()> {
    let (listen, ca) = (services.grpc_address(), ca.display());
    writeln!(told, "  zonecast sub --topic 'users.*'")?;
    writeln!(
        told,
        "  grpcurl -cacert {ca} -d '{{\"name\": \"zoe\"}}' {listen} zonecast.users.v1.UsersService/CreateUser"
    )?;
    writeln!(told, "(`cargo run --release --` in place of `zonecast` when it is not installed.) Ctrl-C ends it.")?;
    writeln!(told)?;
    Ok(told.flush()?)
}

/// The week of the sample, week after week.
fn again_and_again() -> impl Iterator<Item = Result<EventRow, InputError>> + Send {
    const WEEK_MS: f64 = 7.0 * 24.0 * 3600.0 * 1000.0;
    let week = |number: u32| {
        let rows = EventFile::new("events.csv", SAMPLE_EVENTS.as_bytes()).into_iter().flatten();
        rows.map(move |row| row.map(|row| EventRow { time_ms: row.time_ms + f64::from(number) * WEEK_MS, ..row }))
    };
    (0..).flat_map(week)
}

/// Resolves when the time is over, or somebody asks for the end.
async fn ended(seconds: Option<u64>) {
    let over = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let asked = async {
        let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        match terminated {
            Ok(mut terminated) => {
                terminated.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = asked => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// What the run has come to, a row a second; on a terminal always the same row.
struct Table {
    live: bool,
    begun: Instant,
}

impl Table {
    fn show(&self, told: &mut impl Write, progress: &Progress) -> io::Result<()> {
        let (p50, p99) = {
            let latency = progress.latency();
            (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99))
        };
        let row = format!(
            "{:>6} s  {:>3} sessions  {:>8} events  {:>8} deliveries  {:>6} to nobody  p50 {p50:>6} us  p99 {p99:>6} us",
            self.begun.elapsed().as_secs(),
            progress.sessions(),
            progress.events(),
            progress.deliveries(),
            progress.unmatched(),
        );
        if self.live {
            write!(told, "\r{row}")?
        } else {
            writeln!(told, "{row}")?
        }
        told.flush()
    }
}
