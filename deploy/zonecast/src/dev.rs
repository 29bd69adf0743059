//! `zonecast dev`: a broker with a world that lives, and the services beside it, in one process, with nothing to set up.

mod provider;
mod tour;

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

use zonecast_auth::AuthConfig;

use self::provider::Provider;
use crate::{
    cli::DevArgs, credentials::Credential, local_broker::LocalBroker, local_services, replay as replay_command,
};

/// The world of the sample.
const WORLD: &str = "earth";
/// Who gives tokens here, and for whom.
const ISSUER: &str = "zonecast-dev";
const AUDIENCE: &str = "zonecast";
/// What the game server of the tour may do: hold and publish in a thousand by thousand of one world.
const MEADOW_RIGHTS: &str = r#"{"worlds": ["meadow"], "zones": [[0, 0, 1000, 1000]],
    "publish": {"within": [[0, 0, 1000, 1000]], "radius_max": 500, "kinds": ["*"]},
    "topics": {"publish": ["_rpc.zonecast.directory.v1.DirectoryService.*"],
               "subscribe": ["users.*", "characters.*", "directory.*"]}}"#;

/// Runs the command.
///
/// # Errors
/// An address is in use, or standard output cannot be written.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let world = WorldFile::read("zones.csv", SAMPLE_ZONES.as_bytes())?;
    let provider = Provider::start().await?;
    let mut auth = AuthConfig::new(ISSUER, AUDIENCE);
    auth.providers = vec![provider.provider()];
    auth.lives.key_notice = Duration::ZERO;
    let local = LocalBroker::start(args.workers, |config| {
        config.trust = Some(auth.trust.subscribe());
        config.listen = args.listen;
        config.admin_listen = Some(args.admin_listen);
    })
    .await?;
    let directory = tempfile::Builder::new().prefix("zonecast-dev-").tempdir().context("no temporary directory")?;
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &local.pem.ca).with_context(|| format!("{} cannot be written", ca.display()))?;
    let data = args.data.as_deref().unwrap_or(directory.path());
    std::fs::create_dir_all(data).with_context(|| format!("{} cannot be made", data.display()))?;
    let services =
        local_services::start(&local, args.services_listen, data, auth, [(WorldName::new("meadow")?, [500.0, 500.0])])
            .await?;
    let meadow = services.credential("server:meadow", &["directory.serve", "characters.serve"], MEADOW_RIGHTS).await?;
    let meadow_file = directory.path().join("meadow.json");
    std::fs::write(&meadow_file, Credential::json(&meadow))
        .with_context(|| format!("{} cannot be written", meadow_file.display()))?;
    let tokens = services.tokens_for(services.credential("service:world", &[], &local_services::everything()).await?);
    let mut told: Box<dyn Write> = if args.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    introduce(&mut told, &local, &world, &ca)?;
    tour::print(
        &mut told,
        &tour::Places { services: services.host.grpc_address(), provider: provider.issuer(), meadow: meadow_file },
    )?;

    let report = play(&args, &world, &local, &tokens, &mut told).await?;
    services.shutdown().await;
    local.broker.shutdown().await;
    replay_command::print(&report, args.json)?;
    anyhow::ensure!(report.is_exact(), "what arrived is not what should have; see the report");
    Ok(())
}

/// Plays the sample until the end is asked for, and shows how it goes.
async fn play(
    args: &DevArgs,
    world: &WorldFile,
    local: &LocalBroker,
    tokens: &Credential,
    told: &mut impl Write,
) -> anyhow::Result<Report> {
    let progress = Arc::new(Progress::default());
    let options = ReplayOptions { world: WorldName::new(WORLD)?, pace: args.speed.into(), out: None };
    let client = |id: String| {
        let tokens = tokens.clone();
        local.client(format!("world.{id}")).token_from(move || {
            let tokens = tokens.clone();
            async move { tokens.token().await }
        })
    };
    let playing = replay(world, again_and_again(), client, options, Arc::clone(&progress));
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
    Ok(())
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
