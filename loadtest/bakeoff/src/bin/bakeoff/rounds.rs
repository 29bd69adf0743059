//! The runs: which, in which order, and one after the other.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::{process::Command, signal, task::LocalSet, time::timeout};
use zonecast_bakeoff::tls::Certificates;
use zonecast_loadtest::load::{Crew, LoadReport, conduct};

use crate::{
    cell::Cell,
    options::ComparisonOptions,
    page,
    peer::Peer,
    results::{About, CellResults, PeerAbout, Results, Run},
    server::{Programs, Server},
    table, targets,
};

/// What a run takes beside warm-up and measuring: processes that start and end, connections, the rest that arrives.
const OVERHEAD_S: f64 = 1.5;
/// The longest that a run may take beyond that before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// What `--quick` plays, and for how long.
const QUICK: ([&str; 2], f64, f64) = (["max-4x64", "100k-4x64"], 1.0, 0.3);

/// Everything that is to be played.
struct Plan {
    peers: Vec<Peer>,
    cells: Vec<Cell>,
    rounds: u32,
    seconds: f64,
    warm_up_s: f64,
}

/// One run of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    round: u32,
    cell: usize,
    peer: Peer,
}

impl Plan {
    fn new(options: &ComparisonOptions) -> anyhow::Result<Self> {
        let mut peers = vec![Peer::Zonecast];
        for peer in &options.peers {
            if !peers.contains(peer) {
                peers.push(*peer);
            }
        }
        let (names, rounds, seconds, warm_up_s) = if options.quick {
            (QUICK.0.map(str::to_owned).to_vec(), 1, QUICK.1, QUICK.2)
        } else {
            (options.cells.clone(), options.rounds, options.seconds, options.warm_up)
        };
        let mut cells = Cell::named(&names, seconds, warm_up_s)?;
        for cell in &mut cells {
            cell.settings.workers = options.workers;
        }
        Ok(Self { peers, cells, rounds, seconds, warm_up_s })
    }

    /// Round by round; in a round cell by cell; in a cell everybody, beginning with somebody else each time, so that
    /// whatever changes on the machine meets all alike.
    fn turns(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for round in 1..=self.rounds {
            for (index, cell) in self.cells.iter().enumerate() {
                let first = (round as usize - 1 + index) % self.peers.len();
                let in_turn = self.peers.iter().cycle().skip(first).take(self.peers.len());
                let playing = in_turn.filter(|peer| cell.is_for(**peer));
                turns.extend(playing.map(|peer| Turn { round, cell: index, peer: *peer }));
            }
        }
        turns
    }

    fn takes(&self) -> Duration {
        Duration::from_secs_f64(self.turns().len() as f64 * (self.seconds + self.warm_up_s + OVERHEAD_S))
    }
}

/// Plays everything and tells what came of it. Fails where a run failed or anything was lost.
pub(crate) async fn compare(options: ComparisonOptions) -> anyhow::Result<ExitCode> {
    LocalSet::new()
        .run_until(async {
            tokio::select! {
                compared = compare_all(options) => compared,
                // Dropping the rest ends all processes.
                interrupted = signal::ctrl_c() => interrupted.map_err(Into::into).and(Ok(ExitCode::FAILURE)),
            }
        })
        .await
}

async fn compare_all(options: ComparisonOptions) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&options)?;
    let programs = programs(&options)?;
    let peers = abouts(&plan.peers, &programs).await?;
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let certificates = Certificates::create(directory.path())?;
    let turns = plan.turns();
    eprintln!(
        "{} runs of {} s and {} s of warm-up: {} peers, {} cells, {} rounds; takes about {} minutes",
        turns.len(),
        plan.seconds,
        plan.warm_up_s,
        plan.peers.len(),
        plan.cells.len(),
        plan.rounds,
        plan.takes().as_secs().div_ceil(60),
    );
    let mut runs: BTreeMap<(usize, Peer), Vec<Run>> = BTreeMap::new();
    for (number, turn) in (1..).zip(&turns) {
        let cell = &plan.cells[turn.cell];
        let played = timeout(PATIENCE, play(turn.peer, cell, &programs, &certificates, directory.path())).await;
        let run = match played.unwrap_or_else(|_| anyhow::bail!("it has not ended within {} s", PATIENCE.as_secs())) {
            Ok(report) => Run { round: turn.round, report: Some(report), error: None },
            Err(error) => Run { round: turn.round, report: None, error: Some(format!("{error:#}")) },
        };
        eprintln!("{number:>4}/{} round {} {}", turns.len(), turn.round, table::line(&cell.name, turn.peer, &run));
        runs.entry((turn.cell, turn.peer)).or_default().push(run);
    }
    let of_cell = |(index, cell): (usize, &Cell)| {
        let playing = plan.peers.iter().filter(|peer| cell.is_for(**peer));
        CellResults::of(cell, playing.map(|peer| (*peer, runs.remove(&(index, *peer)).unwrap_or_default())).collect())
    };
    let cells: Vec<CellResults> = plan.cells.iter().enumerate().map(of_cell).collect();
    let about = about(&plan);
    let results = Results { about, peers, targets: targets::judge(&cells), cells };
    tell(&options, &results)?;
    let failed = results.cells.iter().flat_map(|cell| &cell.rows).any(|row| !row.failures.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One run: a broker of its own, clients of their own.
async fn play(
    peer: Peer,
    cell: &Cell,
    programs: &Programs,
    certificates: &Certificates,
    directory: &Path,
) -> anyhow::Result<LoadReport> {
    let server = Server::start(peer, programs, certificates, directory).await?;
    let ourselves = programs.ourselves.clone();
    let crew: Crew<Value> = Crew {
        generator: Box::new(move || {
            let mut command = Command::new(&ourselves);
            command.args(["generate", peer.name()]);
            command
        }),
        target: server.target.clone(),
        broker_pids: vec![server.pid],
    };
    let outcome = conduct(&cell.settings, &crew, Arc::default()).await;
    // A broker that has ended by itself explains whatever else went wrong.
    server.stop().await?;
    Ok(outcome?.report)
}

fn programs(options: &ComparisonOptions) -> anyhow::Result<Programs> {
    let ourselves = env::current_exe().context("this program is nowhere")?;
    let zonecast = match &options.zonecast {
        Some(zonecast) => zonecast.clone(),
        None => ourselves.with_file_name(format!("zonecast{}", env::consts::EXE_SUFFIX)),
    };
    ensure!(zonecast.is_file(), "{} is not there; build it, or give --zonecast", zonecast.display());
    Ok(Programs {
        ourselves,
        zonecast,
        nats: options.nats_server.clone(),
        valkey: options.valkey_server.clone(),
        redis: options.redis_server.clone(),
        workers: options.workers,
    })
}

/// Asks every broker what it is, so that one that is not there is found before anything is played.
async fn abouts(peers: &[Peer], programs: &Programs) -> anyhow::Result<Vec<PeerAbout>> {
    let mut abouts = Vec::new();
    for peer in peers {
        let version = match peer {
            Peer::Zonecast => answer(&programs.zonecast).await?,
            Peer::Tcp => "this build, tokio-rustls".to_owned(),
            Peer::Grpc => "this build, tonic".to_owned(),
            Peer::Zmq => libzmq()?,
            Peer::Nats | Peer::NatsTls => answer(&programs.nats).await?,
            Peer::Valkey | Peer::ValkeyTls => answer(&programs.valkey).await?,
            Peer::Redis | Peer::RedisTls => answer(&programs.redis).await?,
        };
        let (cipher, copies) = (peer.cipher().to_owned(), peer.copies().to_owned());
        abouts.push(PeerAbout { peer: *peer, version, cipher, copies });
    }
    Ok(abouts)
}

#[cfg(feature = "zeromq")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature there is an error")]
fn libzmq() -> anyhow::Result<String> {
    Ok(format!("this build, libzmq {}", zonecast_bakeoff::zeromq::version()))
}

#[cfg(not(feature = "zeromq"))]
fn libzmq() -> anyhow::Result<String> {
    anyhow::bail!(crate::broker::NO_ZEROMQ)
}

async fn answer(program: &PathBuf) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output().await;
    let output = output.with_context(|| format!("{} cannot be started; is it installed?", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

fn about(plan: &Plan) -> About {
    let date = time::OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = model.map_or("unknown processor", |(_, model)| model);
    let words = without_places(env::args().skip(1));
    About {
        date: date.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
        machine: format!("{cores} cores, {model}, Linux {}", kernel.trim()),
        command: format!("bakeoff {}", words.join(" ")),
        rounds: plan.rounds,
        seconds: plan.seconds,
    }
}

/// A command line without the options that say where programs are, which says nothing to anybody else.
fn without_places(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut place_follows = false;
    for word in words {
        let (option, value) =
            word.split_once('=').map_or((word.as_str(), None), |(option, value)| (option, Some(value)));
        let is_place = matches!(option, "--zonecast" | "--nats-server" | "--valkey-server" | "--redis-server");
        if !std::mem::replace(&mut place_follows, is_place && value.is_none()) && !is_place {
            kept.push(word);
        }
    }
    kept
}

/// Tables to where JSON does not go.
fn tell(options: &ComparisonOptions, results: &Results) -> anyhow::Result<()> {
    match &options.json {
        Some(file) if file.as_os_str() == "-" => {
            eprint!("{}", table::all(results));
            println!("{}", serde_json::to_string_pretty(results)?);
        }
        json => {
            print!("{}", table::all(results));
            if let Some(file) = json {
                fs::write(file, serde_json::to_string_pretty(results)?).with_context(|| file.display().to_string())?;
            }
        }
    }
    if let Some(file) = &options.html {
        fs::write(file, page::page(results)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_without_places() {
        let words = ["--nats-server", "/opt/nats", "--quick", "--zonecast=/opt/zonecast", "--peers", "tcp"];
        assert_eq!(without_places(words.map(str::to_owned).into_iter()), ["--quick", "--peers", "tcp"]);
    }

    #[test]
    fn rounds_are_interleaved_and_nobody_is_always_first() {
        let names = ["max-4x64", "frozen-max"].map(str::to_owned);
        let peers = vec![Peer::Zonecast, Peer::Tcp, Peer::Grpc];
        let cells = Cell::named(&names, 1.0, 0.0).unwrap();
        let plan = Plan { peers, cells, rounds: 3, seconds: 1.0, warm_up_s: 0.0 };
        let turns = plan.turns();
        assert_eq!(turns.len(), 3 * (3 + 1), "zonecast's own cell is its alone");
        assert_eq!(plan.takes().as_secs(), 30);
        let rounds: Vec<u32> = turns.iter().map(|turn| turn.round).collect();
        assert!(rounds.is_sorted(), "a round ends before the next begins");
        let firsts: Vec<Peer> = turns.chunks(4).map(|round| round[0].peer).collect();
        assert_eq!(firsts, [Peer::Zonecast, Peer::Tcp, Peer::Grpc]);
        for peer in [Peer::Zonecast, Peer::Tcp, Peer::Grpc] {
            assert_eq!(turns.iter().filter(|turn| turn.peer == peer && turn.cell == 0).count(), 3);
        }
    }
}
