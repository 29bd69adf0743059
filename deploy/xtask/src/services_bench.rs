//! `cargo xtask services-bench`: what the companion services cost, on a PostgreSQL that writes as in earnest.

use anyhow::Result;
use clap::Args;

use crate::postgres::{self, Postgres};
use crate::process;
use crate::workspace::Workspace;

/// Measure what the companion services cost: tokens, lookups, users and long lists, by each door and on each database.
///
/// Builds the measurement for speed, starts a PostgreSQL server for it that keeps what it commits over a loss of power, and
/// hands over all options: `cargo xtask services-bench --help` shows them. `--short` says within seconds whether everything
/// works.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Builds and runs it. Standard output is the program's alone.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--release", "--locked", "--package", "zonecast-services-bench", "--"]);
    // Until the measurement has ended.
    let server = Postgres::start_durable()?;
    process::run_unseen(cargo.env(postgres::VARIABLE, server.url()).args(&options.options))
}
