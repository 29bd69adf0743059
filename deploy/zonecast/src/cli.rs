//! The command line. Its help teaches by example; a test parses every example.

mod call;
mod cert;
mod config;
mod connect;
mod credential;
mod dev;
mod game_server;
mod loadtest;
mod replay;
mod services;
mod try_it;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use call::CallArgs;
pub(crate) use cert::CertArgs;
pub(crate) use config::{BrokerArgs, CheckArgs, ConfigCommand, PrintArgs};
pub(crate) use connect::{Address, ConnectArgs};
pub(crate) use credential::CredentialArgs;
pub(crate) use dev::DevArgs;
pub(crate) use game_server::GameServerArgs;
pub(crate) use loadtest::LoadtestArgs;
pub(crate) use replay::{ReplayArgs, Speed};
pub(crate) use services::{MigrateArgs, ServicesArgs};
pub(crate) use try_it::{PubArgs, SubArgs};

/// The version, with the commit that it was built from.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ZONECAST_BUILD_COMMIT"), ")");

/// Variables that are read elsewhere than in settings and flags: by the build and by tests.
const VARIABLES_ELSEWHERE: [&str; 3] = ["ZONECAST_COMMIT", "ZONECAST_TEST_POSTGRES", "ZONECAST_TEST_PYTHON"];

/// A spatial event-routing message broker
///
/// Game servers subscribe with the rectangles of the world that they simulate, their zones. Whatever happens in the
/// world is an event with a position and a radius; zonecast delivers it to every session one of whose zones it touches.
#[derive(Debug, Parser)]
#[command(
    name = "zonecast",
    version = VERSION,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "\
Examples:
  See a broker at work, with nothing to set up:
    zonecast dev

  Run a broker of your own, and talk to it from two terminals:
    zonecast cert --out certs
    zonecast broker --tls-certificate certs/server.pem --tls-key certs/server.key
    zonecast sub --ca certs/ca.pem --zone earth:0,0,100,100
    zonecast pub --ca certs/ca.pem --world earth --at 50,50 --radius 5 'boom'

`zonecast help COMMAND` has examples of each command. All but broker and services log only warnings;
ZONECAST_LOG_LEVEL=debug in the environment shows more."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Broker(BrokerArgs),
    Services(ServicesArgs),
    Migrate(MigrateArgs),
    Dev(DevArgs),
    Replay(ReplayArgs),
    Loadtest(LoadtestArgs),
    /// A process of a load test
    #[command(hide = true)]
    LoadtestGenerator,
    Sub(SubArgs),
    Pub(PubArgs),
    Credential(CredentialArgs),
    Call(CallArgs),
    GameServer(GameServerArgs),
    Cert(CertArgs),
    /// Check or print the broker's configuration
    ///
    /// Takes the same flags, variables and file as `zonecast broker`.
    #[command(after_help = "\
Examples:
    zonecast config check --config /etc/zonecast.toml
    zonecast config print --json
    zonecast config print --example > zonecast.toml")]
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print a script that completes zonecast's commands and flags in your shell
    #[command(after_help = "\
Examples:
    zonecast completions bash > ~/.local/share/bash-completion/completions/zonecast
    zonecast completions zsh > ~/.zfunc/_zonecast
    zonecast completions fish > ~/.config/fish/completions/zonecast.fish")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The environment variables that are ours without being settings: those of other flags, of the build and of tests.
pub(crate) fn known_variables() -> Vec<String> {
    let command = Cli::command();
    let of_flags = command.get_subcommands().flat_map(|sub| sub.get_arguments()).filter_map(|arg| arg.get_env());
    let mut names: Vec<String> = of_flags.map(|name| name.to_string_lossy().into_owned()).collect();
    names.extend(VARIABLES_ELSEWHERE.map(str::to_owned));
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests;
