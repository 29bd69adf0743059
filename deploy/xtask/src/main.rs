//! `cargo xtask`: the build, test and check commands of this workspace.
//!
//! Every command is a thin shell (start a program, read the tree) around functions that only compute, and those are
//! the ones under test. It deliberately knows nothing of how zonecast works: it may be built while the broker is not.
//!
//! Where to start: [`Command`] lists the commands; each has a module. A new command is one more
//! variant there, one module with `Options` and `run`, nothing else.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks through its streams")]

mod bakeoff;
mod chaos;
mod ci;
mod deny;
mod fuzz;
mod mutants;
mod node;
mod postgres;
mod process;
mod python;
mod services_bench;
mod sim;
mod testing;
mod tidy;
mod tool;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Build, test and check commands of the zonecast workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands. One variant and one module each; what `--help` says of one is written on its `Options`.
#[derive(Subcommand)]
enum Command {
    Test(testing::Options),
    /// Check the house rules: file length, names, purity, dependency directions, proto style, links.
    ///
    /// Every breach is printed as `path:line: rule: message`. Looks at all files that git tracks or would take.
    /// The same check is a test of this package, so `cargo test -p xtask` runs it too.
    Tidy,
    /// Check the dependencies: banned crates, version floors, licences, sources, advisories.
    ///
    /// Runs cargo-deny with the rules of `.deny.toml`, and builds it first where it is not there: once, some minutes.
    /// Says so aloud where the database of published advisories cannot be reached.
    Deny,
    Fuzz(fuzz::Options),
    Mutants(mutants::Options),
    Sim(sim::Options),
    Chaos(chaos::Options),
    Bakeoff(bakeoff::Options),
    ServicesBench(services_bench::Options),
    Ci(ci::Options),
}

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<()> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Test(options) => testing::run(&workspace, &options),
        Command::Tidy => tidy::run(&workspace),
        Command::Deny => deny::run(&workspace),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::Mutants(options) => mutants::run(&workspace, &options),
        Command::Sim(options) => sim::run(&workspace, &options),
        Command::Chaos(options) => chaos::run(&workspace, &options),
        Command::Bakeoff(options) => bakeoff::run(&workspace, &options),
        Command::ServicesBench(options) => services_bench::run(&workspace, &options),
        Command::Ci(options) => ci::run(&workspace, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
