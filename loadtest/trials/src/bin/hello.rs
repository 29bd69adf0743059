//! What a token costs at the hello: connections with one and without, side by side.
//!
//! One process, three brokers with one worker each: one looks at no tokens, one at tokens that permit everything, one at
//! tokens with a hundred rectangles. Each round takes them in turn; the medians of the rounds are reported.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks through its streams")]

use std::{
    collections::BTreeSet,
    hint::black_box,
    num::NonZeroUsize,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::sync::watch;
use zonecast_access::{Claims, Keys, Revocations, SigningKey, Trust};
use zonecast_broker::{Broker, BrokerConfig, BrokerTls};
use zonecast_client::{Client, ClientConfig, TlsConfig, Zone};
use zonecast_protocol::{Area, Rights};

/// How often a token is checked by itself.
const CHECKS: u32 = 2_000;

/// Measure what a token costs at the hello, side by side.
///
/// Connections one after the other, each from a client of its own: QUIC and TLS handshake, hello, welcome, goodbye. Times
/// are those of both ends together.
#[derive(Parser)]
#[command(name = "hello", max_term_width = 100)]
struct Options {
    /// Rounds; medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Connections of each measurement
    #[arg(long, default_value_t = 300)]
    connections: u32,

    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A broker, and what to show to it.
struct Stand {
    name: &'static str,
    broker: Broker,
    token: String,
    trust: Trust,
    tls: TlsConfig,
    /// Microseconds per connection, of the clock and of processors.
    measured: Vec<(f64, f64)>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<()> {
    let mut many = Rights::everything();
    let rectangle = |at: u8| Zone::new(f64::from(at), 0.0, f64::from(at) + 1.0, 1.0);
    many.zones = Area::Within((0..100).map(rectangle).collect::<Result<_, _>>()?);
    let mut stands = vec![
        stand("no token", None).await?,
        stand("token", Some(Rights::everything())).await?,
        stand("token, 100 rectangles", Some(many)).await?,
    ];
    for round in 0..options.rounds {
        let count = stands.len();
        // Another one begins each time, so that none is always behind the same other.
        for at in 0..count {
            let stand = &mut stands[(at + round) % count];
            let measured = connect(stand, options.connections).await?;
            stand.measured.push(measured);
        }
    }
    report(options, stands)
}

async fn stand(name: &'static str, rights: Option<Rights>) -> Result<Stand> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config =
        BrokerConfig::new(([127, 0, 0, 1], 0).into(), BrokerTls::new(vec![made.cert.der().clone()], key.into()));
    config.workers = NonZeroUsize::MIN;
    let signing = SigningKey::generate("k")?;
    let trust = Trust {
        issuer: "i".to_owned(),
        audience: "a".to_owned(),
        keys: Keys::from_jwks(&Keys::jwks([(signing.id(), signing.public())]))?,
        revoked: Revocations::default(),
    };
    let mut token = String::new();
    if let Some(rights) = rights {
        config.trust = Some(watch::Sender::new(Arc::new(trust.clone())).subscribe());
        let now = now_s();
        let claims = Claims {
            issuer: "i".to_owned(),
            audience: BTreeSet::from(["a".to_owned()]),
            subject: "server:hello".parse()?,
            login: "l".to_owned(),
            issued_at: now,
            expires_at: now + 3_600,
            scopes: BTreeSet::new(),
            rights,
        };
        token = claims.sign(&signing)?;
    }
    let broker = Broker::start(config).await?;
    let tls = TlsConfig::from_ca_pem(made.cert.pem().as_bytes())?;
    Ok(Stand { name, broker, token, trust, tls, measured: Vec::new() })
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[allow(clippy::cast_precision_loss, reason = "some nanoseconds of a minute")]
fn cpu_us() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e6 + used.tv_nsec as f64 / 1e3
}

async fn connect(stand: &Stand, connections: u32) -> Result<(f64, f64)> {
    let (begun, cpu) = (Instant::now(), cpu_us());
    for number in 0..connections {
        let config = ClientConfig::new(format!("hello.{number}"))
            .address(stand.broker.local_addr().to_string())
            .server_name("localhost")
            .tls(stand.tls.clone())
            .token(stand.token.clone());
        Client::connect(config).await?.close().await?;
    }
    let each = 1.0 / f64::from(connections);
    Ok((begun.elapsed().as_secs_f64() * 1e6 * each, (cpu_us() - cpu) * each))
}

/// Microseconds of one check by itself.
fn check_us(stand: &Stand) -> f64 {
    let (now, begun) = (now_s(), Instant::now());
    for _ in 0..CHECKS {
        let _ = black_box(stand.trust.admit(black_box(&stand.token), now));
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CHECKS)
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(options: &Options, stands: Vec<Stand>) -> Result<()> {
    let rows = stands.iter().map(|stand| {
        let wall = median(stand.measured.iter().map(|(wall, _)| *wall));
        let cpu = median(stand.measured.iter().map(|(_, cpu)| *cpu));
        let check = if stand.token.is_empty() { 0.0 } else { check_us(stand) };
        (stand.name, stand.token.len(), wall, cpu, check)
    });
    let rows: Vec<_> = rows.collect();
    if options.json {
        let row = |(name, bytes, wall, cpu, check): &(&str, usize, f64, f64, f64)| json!({ "hello": name, "token_bytes": bytes, "wall_us": wall, "cpu_us": cpu, "check_us": check });
        println!("{}", json!({ "rounds": options.rounds, "hellos": rows.iter().map(row).collect::<Vec<_>>() }));
        return Ok(());
    }
    println!("{:<24} {:>11} {:>12} {:>11} {:>16}", "hello", "token bytes", "us/hello", "CPU us", "check alone us");
    for (name, bytes, wall, cpu, check) in rows {
        println!("{name:<24} {bytes:>11} {wall:>12.0} {cpu:>11.0} {check:>16.1}");
    }
    Ok(())
}
