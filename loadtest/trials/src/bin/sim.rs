//! `sim`: plays seeds of the simulation and says what came of them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks through its streams")]

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use zonecast_trials::{Identity, Outcome, Plan, Report, Teller, perform};

/// Play real clients and brokers on a virtual clock and a network that fails on purpose, and watch the promises.
///
/// Each seed is one schedule: brokers, clients, what they publish and hear, and what goes wrong. The same seed gives the
/// same run, to the packet. After the troubles everything must be finished within a set virtual time.
///
/// The exit code is not 0 when a promise is broken or a kind of fault never happened. A broken promise names its seed;
/// `--seed` plays it again and tells the story line by line.
#[derive(Parser)]
#[command(name = "sim", bin_name = "cargo xtask sim", max_term_width = 100)]
struct Options {
    /// How many seeds to play, counted from --first
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "seed")]
    seeds: u64,

    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    first: u64,

    /// Play this seed alone and tell what happens on the standard error stream, each line with its virtual second
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    /// Seeds that are played at the same time; as many as there are cores if not given
    #[arg(long, value_name = "T")]
    threads: Option<NonZeroUsize>,

    /// Play each seed twice and compare the hashes of all packets: a run must be a function of its seed
    #[arg(long)]
    twice: bool,

    /// Print the result as JSON instead of a few lines
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let identity = match Identity::new() {
        Ok(identity) => identity,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let report = match options.seed {
        Some(seed) => one(seed, &identity),
        None => many(&options, &identity),
    };
    let missing = if options.seed.is_some() { Vec::new() } else { report.faults_missing() };
    let result = report.json();
    if options.json {
        println!("{result:#}");
    } else {
        print_lines(&result);
        println!("took {:.1} s", began.elapsed().as_secs_f64());
    }
    for seed in report.failures().keys() {
        eprintln!("error: seed {seed} breaks a promise; its story: cargo xtask sim --seed {seed}");
    }
    for seed in report.unrepeatable() {
        eprintln!("error: seed {seed} gave two different runs");
    }
    for fault in &missing {
        eprintln!("error: the fault {fault} never happened; play more seeds");
    }
    if report.failures().is_empty() && report.unrepeatable().is_empty() && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Numbers in lines of their own, groups of them in one.
fn print_lines(result: &serde_json::Value) {
    for (key, value) in result.as_object().into_iter().flatten() {
        println!("{key:>24}  {value}");
    }
}

fn one(seed: u64, identity: &Identity) -> Report {
    let plan = Plan::draw(seed);
    eprintln!("{plan:#?}");
    let teller: Teller = Box::new(|line| eprintln!("{line}"));
    let outcome = perform(plan, identity, Some(teller));
    eprintln!("packet hash {:016x}", outcome.hash);
    let mut report = Report::default();
    report.add(seed, &outcome);
    report
}

fn many(options: &Options, identity: &Identity) -> Report {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let next = AtomicU64::new(0);
    let report = Mutex::new(Report::default());
    let play = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= options.seeds {
                return;
            }
            let seed = options.first + number;
            let outcome = perform(Plan::draw(seed), identity, None);
            tell_of_failure(seed, &outcome);
            let repeats = !options.twice || perform(Plan::draw(seed), identity, None).hash == outcome.hash;
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.add(seed, &outcome);
            if !repeats {
                report.add_unrepeatable(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads.unwrap_or(cores).get() {
            scope.spawn(play);
        }
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn tell_of_failure(seed: u64, outcome: &Outcome) {
    if let Some(first) = outcome.findings.violations().first() {
        eprintln!("seed {seed}: {:?} at {:.3} s: {}", first.kind, first.at.as_secs_f64(), first.what);
    }
}
