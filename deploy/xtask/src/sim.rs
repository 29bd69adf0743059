//! `cargo xtask sim`: the simulation of brokers and clients in virtual time.

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// Seeds that `ci` plays: enough for every kind of fault to happen, few enough to wait for.
const CI_SEEDS: &str = "40";

/// Play real clients and brokers on a virtual clock and a network that fails on purpose.
///
/// Builds the simulation for speed and runs it with the arguments that follow; `cargo xtask sim --help` says which
/// there are. Most used: `--seeds N` plays so many schedules, `--seed S` plays one again and tells its story, `--json`
/// prints the result for machines.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Arguments of the simulation
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

impl Options {
    /// The short run of `ci`.
    pub(crate) fn short() -> Self {
        Self { arguments: vec!["--seeds".to_owned(), CI_SEEDS.to_owned()] }
    }
}

/// Builds and runs it; an error where a promise was broken.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--release", "--locked", "--package", "zonecast-trials", "--bin", "sim", "--"]);
    process::run_unseen(cargo.args(&options.arguments))
}
