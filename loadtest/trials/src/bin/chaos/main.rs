//! `chaos`: brokers and clients as processes, which are killed, stopped and cut off while a model watches.
//!
//! One program plays three roles. The [`guard`] is what one starts: it lays the network and cleans up. The [`stage`],
//! its only child, starts brokers (the `zonecast` binary) and peers, lets things go wrong and judges in the end. A
//! [`peer`] is a process with some clients, which writes what they see into a journal of its own. In the end the stage
//! tells the observer of this package what stands in all the journals.
//!
//! It knows nothing of the broker's insides; what it asks of a broker goes through QUIC, signals and admin HTTP.

mod acts;
mod broker;
mod certificates;
mod cgroup;
mod clock;
mod crew;
mod field;
mod guard;
mod journal;
mod options;
mod peer;
mod replay;
mod report;
mod script;
mod stage;
mod tool;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::options::Options;

/// Kill, stop and cut off real brokers and clients, and see whether the delivery promises hold
///
/// Brokers and clients run as processes. While clients publish, processes are killed (kill -9) and stopped (SIGSTOP),
/// packets are lost, links are cut and narrowed. Every process writes what it sees; in the end a model that shares no
/// code with broker or client says whether something was lost, came twice, or came late without a word.
///
/// Packets can be harmed only where this runs as root and has the tools ip, tc and nft: then brokers and clients are in
/// network namespaces of their own, which nothing else can reach. Elsewhere all goes over loopback. What could not be
/// run is said aloud, and listed under `not_run`.
///
/// Exit code: 0 when all promises held, 1 when one was broken or the run failed, 2 when called wrongly.
#[derive(Parser)]
#[command(
    name = "chaos",
    bin_name = "cargo xtask chaos",
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  Half a minute of everything in small, as CI does it:
    cargo xtask chaos --seconds 20

  Ten minutes, for the record:
    cargo xtask chaos --seconds 600 --json > chaos.json

  Only what you are working at, with all logs and journals to read afterwards:
    cargo xtask chaos --seconds 30 --only restarts --keep /tmp/restarts

What the figures mean:
  acked_lost           acknowledged as processed, and not processed by everyone whom it concerned
  duplicated           handed to an application twice
  unflagged_reorder    out of the order of its lane
  silent_gaps          acknowledged as routed, and missing without a gap or an interruption being shown
  stuck_after_heal     without an answer or a connection long after all was well again
  routed_loss_on_crash share of routed_due that is missing because a broker was killed: permitted, and shown
  faults               how often each kind really happened
  resume_ms            from the loss of a link to the session's going on
  restart_noticed_ms   from the start of a broker's new process, its own start included, to a writing client's noticing"
)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Role {
    /// Started by the guard.
    #[command(hide = true)]
    Stage { assignment: String },
    /// Started by the stage.
    #[command(hide = true)]
    Peer,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let played = match cli.role {
        None => guard::run(cli.options),
        Some(Role::Stage { assignment }) => play_stage(&assignment),
        Some(Role::Peer) => peer::run().map(|()| ExitCode::SUCCESS),
    };
    played.unwrap_or_else(|error| fail(&error))
}

fn play_stage(assignment: &str) -> anyhow::Result<ExitCode> {
    let is_sound = stage::run(serde_json::from_str(assignment)?)?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "a command-line tool speaks through its streams")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
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
