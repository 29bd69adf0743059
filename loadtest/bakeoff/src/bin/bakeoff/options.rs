//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{broker::BrokerOptions, peer::Peer};

/// Run the same world against zonecast and its peers, in interleaved rounds, and compare.
#[derive(Debug, Parser)]
#[command(name = "bakeoff", max_term_width = 100, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) comparison: ComparisonOptions,
}

/// What the comparison starts, and what can be done with its results.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be the broker process of an own peer
    #[command(hide = true)]
    Broker(BrokerOptions),
    /// Be a generator process
    #[command(hide = true)]
    Generate {
        /// Whose clients
        peer: Peer,
    },
    /// Make the report for the browser from the results of an earlier run
    Page {
        /// What `--json` wrote
        results: PathBuf,
        /// Where the report goes
        #[arg(long)]
        html: PathBuf,
    },
}

/// How the comparison goes.
#[derive(Debug, Args)]
pub(crate) struct ComparisonOptions {
    /// Which peers, comma-separated; zonecast always takes part
    #[arg(long, value_delimiter = ',', default_values_t = Peer::USUAL)]
    pub(crate) peers: Vec<Peer>,
    /// Rounds; in each, every peer plays every cell
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Which cells, comma-separated: `usual`, `all`, `zonecast`, `zonecast`'s own by name, or RATE-HITSxBYTES such as
    /// `max-4x64` and `20k-16x256`, with `-1000s` for 1,000 sessions
    #[arg(long, value_delimiter = ',', default_value = "usual,zonecast")]
    pub(crate) cells: Vec<String>,
    /// Seconds that each run measures
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Seconds of warm-up before that
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warm_up: f64,
    /// One round of short runs of two cells: to see whether everything works
    #[arg(long)]
    pub(crate) quick: bool,
    /// Worker threads of zonecast's broker; its own choice where not given
    #[arg(long)]
    pub(crate) workers: Option<u32>,
    /// Print the results as JSON; with a file, write them there
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report for the browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The zonecast program; beside this one where not given
    #[arg(long, value_name = "FILE")]
    pub(crate) zonecast: Option<PathBuf>,
    /// The NATS server
    #[arg(long, value_name = "FILE", default_value = "nats-server")]
    pub(crate) nats_server: PathBuf,
    /// The Valkey server
    #[arg(long, value_name = "FILE", default_value = "valkey-server")]
    pub(crate) valkey_server: PathBuf,
    /// The Redis server
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    pub(crate) redis_server: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
