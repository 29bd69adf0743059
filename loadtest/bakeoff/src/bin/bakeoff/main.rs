//! `bakeoff`: runs the same world against zonecast and its peers, in interleaved rounds, and compares.
//!
//! `cargo xtask bakeoff` installs what it needs, builds it for speed, and starts it. The same program is also the
//! broker process of the own peers (`bakeoff broker`) and every peer's generator processes (`bakeoff generate`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks through its streams")]

mod broker;
mod cell;
mod generate;
mod options;
mod page;
mod peer;
mod results;
mod rounds;
mod server;
mod statistics;
mod table;
mod targets;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use options::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Broker(options)) => on_one_thread(broker::serve(options)),
        Some(Command::Generate { peer }) => on_one_thread(generate::generate(peer)),
        Some(Command::Page { results, html }) => page::again(&results, &html).map(|()| ExitCode::SUCCESS),
        None => on_one_thread(rounds::compare(cli.comparison)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Own brokers and generators have one thread each; so has the comparison, which mostly waits.
fn on_one_thread(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(work)
}
