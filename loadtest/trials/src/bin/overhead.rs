//! What a promise costs: the broker's CPU time per delivery by level, measured side by side.
//!
//! The broker is a process of its own, whose CPU time is read from the system; the clients are in this one. Each round
//! measures every level once, in turn; the medians of the rounds are reported.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks through its streams")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use zonecast_broker::{Broker, BrokerConfig, BrokerTls};
use zonecast_client::{
    Circle, Client, ClientConfig, DeliveryClass, Publish, TlsConfig, TransportOptions, Zone, ZoneItem, ZoneSpec,
};

/// Sessions, each with a column of the world; an event in a corner touches so many of them.
const SESSIONS: u32 = 32;
const HITS: u64 = 4;
const PUBLISHERS: u64 = 4;
/// Events that are published and not yet delivered everywhere, per publisher.
const WINDOW: u64 = 256;
/// How long a delivery may be missing before it counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// Measure what each level of delivery costs the broker, side by side.
///
/// A broker process with one worker, 32 sessions over 256 zones, 4 publishers, 64-byte payloads, 4 hits per event; as
/// fast as a window of 256 events per publisher permits. Levels: transient as datagrams, transient on the stream, state
/// and reliable without a resume window (nothing is kept), reliable kept until received (`routed`), and `processed`.
#[derive(Parser)]
#[command(name = "overhead", max_term_width = 100)]
struct Options {
    /// Rounds; medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Events of each measurement; every one is delivered four times
    #[arg(long, default_value_t = 100_000)]
    events: u64,

    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,

    /// Be the broker: certificate and key are read from this directory
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

/// A level of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Level {
    TransientDatagram,
    TransientStream,
    State,
    RoutedUnkept,
    Routed,
    Processed,
}

impl Level {
    fn class(self) -> DeliveryClass {
        match self {
            Self::TransientDatagram | Self::TransientStream => DeliveryClass::Transient,
            Self::State => DeliveryClass::State,
            Self::RoutedUnkept | Self::Routed | Self::Processed => DeliveryClass::Reliable,
        }
    }

    fn keeps(self) -> bool {
        matches!(self, Self::State | Self::Routed | Self::Processed)
    }

    fn name(self) -> &'static str {
        match self {
            Self::TransientDatagram => "transient_datagram",
            Self::TransientStream => "transient_stream",
            Self::State => "state",
            Self::RoutedUnkept => "routed_unkept",
            Self::Routed => "routed",
            Self::Processed => "processed",
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Measured {
    cpu_s_per_million: f64,
    deliveries_s: f64,
    lost: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &options.serve {
        Some(directory) => runtime.block_on(serve(directory)),
        None => runtime.block_on(measure_all(&options)),
    }
}

/// The broker's process: says its address, and serves until its input ends.
async fn serve(directory: &Path) -> Result<()> {
    let tls = BrokerTls::from_files(&directory.join("cert.pem"), &directory.join("key.pem"), None)?;
    let mut config = BrokerConfig::new(([127, 0, 0, 1], 0).into(), tls);
    config.workers = std::num::NonZeroUsize::MIN;
    let broker = Broker::start(config).await?;
    println!("{}", broker.local_addr());
    std::io::stdout().flush()?;
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().for_each(drop)).await?;
    Ok(())
}

async fn measure_all(options: &Options) -> Result<()> {
    let mut rounds = BTreeMap::<Level, Vec<Measured>>::new();
    for round in 0..options.rounds {
        let levels = Level::value_variants();
        // Another one begins each time, so that none is always behind the same other.
        for at in 0..levels.len() {
            let level = levels[(at + round) % levels.len()];
            let measured = measure(level, options.events).await.with_context(|| level.name())?;
            rounds.entry(level).or_default().push(measured);
        }
    }
    report(options, &rounds)
}

struct BrokerProcess {
    child: Child,
    address: String,
    tls: TlsConfig,
    directory: PathBuf,
}

impl BrokerProcess {
    fn start() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let directory = std::env::temp_dir().join(format!("zonecast-overhead-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("cert.pem"), made.cert.pem())?;
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the broker's process cannot be started")?;
        let mut address = String::new();
        let said = child.stdout.take().context("the broker's process has no output")?;
        BufReader::new(said).read_line(&mut address)?;
        ensure!(!address.trim().is_empty(), "the broker's process said no address");
        let tls = TlsConfig::from_ca_pem(made.cert.pem().as_bytes())?;
        Ok(Self { child, address: address.trim().to_owned(), tls, directory })
    }

    /// CPU seconds that the process has used, by the system's books.
    fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
        // Fields 14 and 15 of proc_pid_stat(5), in clock ticks, of which Linux has 100 per second everywhere.
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).context("no ticks in stat");
        Ok(f64::from(ticks(11)? + ticks(12)?) / 100.0)
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Deliveries so far, and who waits for more of them.
#[derive(Default)]
struct Tally {
    delivered: AtomicU64,
    more: Notify,
}

async fn measure(level: Level, events: u64) -> Result<Measured> {
    let broker = BrokerProcess::start()?;
    let tally = Arc::new(Tally::default());
    let mut readers = JoinSet::new();
    let mut clients = Vec::new();
    for number in 0..SESSIONS {
        let client = connect(&broker, format!("server-{number}"), level).await?;
        let x = f64::from(number / 2);
        let row = f64::from(number % 2) * 8.0;
        let zones = (0..8_u32).map(|at| {
            let y = row + f64::from(at);
            Ok(ZoneSpec::new(at + 1, "earth", Zone::new(x, y, x + 1.0, y + 1.0)?))
        });
        let mut subscription = client.subscribe_zones(zones.collect::<Result<Vec<_>>>()?).await?;
        clients.push(client);
        let tally = Arc::clone(&tally);
        readers.spawn(async move {
            while let Some(item) = subscription.next().await {
                if let ZoneItem::Event(_) = item {
                    tally.delivered.fetch_add(1, Ordering::Relaxed);
                    tally.more.notify_waiters();
                }
            }
        });
    }
    let mut publishers = Vec::new();
    for number in 0..PUBLISHERS {
        publishers.push(connect(&broker, format!("publisher-{number}"), level).await?);
    }
    // A first thousand, so that everything has grown.
    publish_all(&publishers, level, 1_000, &tally).await?;
    let (cpu_before, delivered_before, begun) =
        (broker.cpu_s()?, tally.delivered.load(Ordering::Relaxed), Instant::now());
    let lost = publish_all(&publishers, level, events, &tally).await?;
    let elapsed = begun.elapsed().as_secs_f64();
    let cpu_s = broker.cpu_s()? - cpu_before;
    #[allow(clippy::cast_precision_loss, reason = "a count of deliveries is far below 2^52")]
    let delivered = (tally.delivered.load(Ordering::Relaxed) - delivered_before) as f64;
    readers.shutdown().await;
    Ok(Measured { cpu_s_per_million: cpu_s / delivered * 1e6, deliveries_s: delivered / elapsed, lost })
}

async fn connect(broker: &BrokerProcess, id: String, level: Level) -> Result<Client> {
    let mut transport = TransportOptions::default();
    if level == Level::TransientStream {
        transport.datagram_receive_buffer_bytes = 0;
    }
    let config = ClientConfig::new(id)
        .address(&broker.address)
        .server_name("localhost")
        .tls(broker.tls.clone())
        .transport(transport)
        .resume_window(if level.keeps() { Duration::from_secs(30) } else { Duration::ZERO });
    Ok(Client::connect(config).await?)
}

/// Publishes so many events, at most a window ahead of their deliveries; returns how many deliveries were lost.
async fn publish_all(publishers: &[Client], level: Level, events: u64, tally: &Arc<Tally>) -> Result<u64> {
    let before = tally.delivered.load(Ordering::Relaxed);
    let sent = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (number, client) in (0..PUBLISHERS).zip(publishers) {
        let (client, tally, sent) = (client.clone(), Arc::clone(tally), Arc::clone(&sent));
        tasks.spawn(
            async move { publish_share(&client, level, number, events / PUBLISHERS, &tally, &sent, before).await },
        );
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let expected = events / PUBLISHERS * PUBLISHERS * HITS;
    let all = async {
        while tally.delivered.load(Ordering::Relaxed) - before < expected {
            let _ = timeout(Duration::from_millis(10), tally.more.notified()).await;
        }
    };
    let _ = timeout(LOST_AFTER, all).await;
    let lost = expected - (tally.delivered.load(Ordering::Relaxed) - before).min(expected);
    if lost > 0 && level.class() != DeliveryClass::Transient && level.class() != DeliveryClass::State {
        bail!("{lost} of {expected} deliveries never came");
    }
    Ok(lost)
}

async fn publish_share(
    client: &Client,
    level: Level,
    number: u64,
    events: u64,
    tally: &Tally,
    sent: &AtomicU64,
    before: u64,
) -> Result<()> {
    let mut receipts = std::collections::VecDeque::new();
    let payload = [7_u8; 64];
    for at in 0..events {
        while sent.load(Ordering::Relaxed) * HITS
            > tally.delivered.load(Ordering::Relaxed) - before + WINDOW * PUBLISHERS * HITS
        {
            // What is lost would be waited for without an end.
            if timeout(Duration::from_millis(10), tally.more.notified()).await.is_err() {
                break;
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
        // A corner of four zones of four sessions.
        #[allow(clippy::cast_precision_loss, reason = "below 16")]
        let x = ((at * 7 + number * 3) % 15 + 1) as f64;
        let mut publish = Publish::at("earth", Circle::new(x, 8.0, 0.0)?).class(level.class()).payload(&payload);
        if level == Level::State {
            publish = publish.key(format!("{number}.{at}"));
        }
        match level {
            Level::Processed => receipts.push_back(client.publish_with_processed_ack(publish).await?),
            Level::Routed | Level::RoutedUnkept => receipts.push_back(client.publish_with_ack(publish).await?),
            _ => drop(client.publish(publish).await?),
        }
        while receipts.len() as u64 >= WINDOW
            && let Some(receipt) = receipts.pop_front()
        {
            ensure!(u64::from(receipt.await?.matched) == HITS, "an event did not reach four sessions");
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(options: &Options, rounds: &BTreeMap<Level, Vec<Measured>>) -> Result<()> {
    let cpu_of = |level: Level| median(rounds[&level].iter().map(|m| m.cpu_s_per_million).collect());
    let base = cpu_of(Level::TransientStream);
    let mut rows = serde_json::Map::new();
    if !options.json {
        println!("{:<20} {:>16} {:>12} {:>16} {:>8}", "level", "CPU s/M deliv.", "ratio", "deliveries/s", "lost");
    }
    for (level, measured) in rounds {
        let cpu = cpu_of(*level);
        let deliveries_s = median(measured.iter().map(|m| m.deliveries_s).collect());
        let lost: u64 = measured.iter().map(|m| m.lost).sum();
        if options.json {
            let spread: Vec<f64> = measured.iter().map(|m| m.cpu_s_per_million).collect();
            let row = json!({
                "cpu_s_per_million_deliveries": cpu, "ratio_to_transient_stream": cpu / base,
                "deliveries_s": deliveries_s, "lost": lost, "all_cpu_s_per_million_deliveries": spread,
            });
            rows.insert(level.name().to_owned(), row);
        } else {
            println!("{:<20} {cpu:>16.3} {:>12.2} {deliveries_s:>16.0} {lost:>8}", level.name(), cpu / base);
        }
    }
    if options.json {
        println!("{}", serde_json::to_string(&json!({ "rounds": options.rounds, "levels": rows }))?);
    }
    Ok(())
}
