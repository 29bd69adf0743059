//! `services-bench`: what the companion services cost, as a table or in JSON.
#![allow(clippy::print_stdout, reason = "a command-line tool speaks through its streams")]

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use zonecast_services_bench::{Scale, measure};
use zonecast_testing::{POSTGRES_VARIABLE, postgres_url};

/// Measure what the companion services cost, side by side.
///
/// Checks of tokens; lookups in memory, by gRPC and by the broker; users by each door on SQLite and on PostgreSQL; the first
/// page of a million users against the last. Broker, services and callers share this process. `cargo xtask services-bench`
/// starts the PostgreSQL server that it wants.
#[derive(Parser)]
#[command(name = "services-bench", max_term_width = 100)]
struct Options {
    /// Rounds; medians are reported
    #[arg(long)]
    rounds: Option<usize>,

    /// Calls of the users service per second, five kinds in turn
    #[arg(long, value_parser = clap::value_parser!(u32).range(5..=100_000))]
    rate: Option<u32>,

    /// Seconds of each measurement at that rate
    #[arg(long)]
    seconds: Option<u64>,

    /// Only see whether everything works; the figures mean nothing
    #[arg(long)]
    short: bool,

    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(postgres_url().is_some(), "{POSTGRES_VARIABLE} names no server; `cargo xtask services-bench` starts one");
    let mut scale = if options.short { Scale::short() } else { Scale::full() };
    scale.rounds = options.rounds.unwrap_or(scale.rounds);
    scale.rate = options.rate.unwrap_or(scale.rate);
    scale.lasts = options.seconds.map_or(scale.lasts, Duration::from_secs);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(&scale))?;
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{figures}");
    }
    Ok(())
}
