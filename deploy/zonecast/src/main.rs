//! `zonecast`: the broker and the tools around it in one binary.
//!
//! Each subcommand is a module: [`broker_command`] and [`services_command`] serve; `dev`, `replay` and `try_it` show a broker at work, `loadtest` measures
//! one; [`cert`]
//! makes certificates for development. [`settings`] is the broker's configuration, [`logging`] the form of its log.
//! Nothing here routes an event: that is the broker crate's, and under it the core's.
//!
//! Start at [`cli::Cli`].
//!
//! Exit codes: 0 done, 1 failed, 2 called or configured wrongly.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks through them")]

mod broker_command;
mod call;
mod cert;
mod cli;
mod config_command;
mod connecting;
mod dev;
mod loadtest;
mod local_broker;
mod local_services;
mod logging;
mod replay;
mod services_command;
mod settings;
mod signals;
mod tls_reload;
mod try_it;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use logging::Destination;
use zonecast_loadtest::load::SettingError;

/// The exit code of a call or a configuration that is not valid.
const EXIT_INVALID: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    raise_open_file_limit();
    match command {
        Command::Broker(args) => runtime()?.block_on(broker_command::run(args)),
        Command::Services(args) => runtime()?.block_on(services_command::run(args)),
        Command::Migrate(args) => runtime()?.block_on(services_command::migrate(args)),
        Command::Config { command } => config_command::run(command),
        Command::Cert(args) => cert::run(&args),
        Command::Completions { shell } => completions(shell),
        Command::Call(args) => tool(call::run(args)),
        Command::Dev(args) => tool(dev::run(args)),
        Command::Replay(args) => tool(replay::run(args)),
        Command::Loadtest(args) => tool(loadtest::run(args)),
        Command::LoadtestGenerator => tool(async { Ok(loadtest::run_generator().await?) }),
        Command::Sub(args) => tool(try_it::sub(args)),
        Command::Pub(args) => tool(try_it::publish(args)),
    }
}

/// Runs a command whose standard output belongs to its results.
fn tool(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let log = settings::tool_log(&settings::sources(None, Default::default(), cli::known_variables()))?;
    let _log = logging::start(&log, Destination::Stderr)?;
    runtime()?.block_on(work)
}

/// One thread is enough: the broker's workers bring their own, and the services mostly wait for their database.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot start")
}

/// Every worker holds sockets; the soft limit is often 1,024 for the sake of programs that use `select`.
fn raise_open_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("warning: the limit of open files stays as it is: {error}");
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    // Into memory first: the generator panics when standard output closes early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "zonecast", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}

fn report(error: &anyhow::Error) -> ExitCode {
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) {
        // The reader has seen enough (`zonecast config print | head`).
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", with_causes(error));
    let is_invalid =
        error.downcast_ref::<settings::Problems>().is_some() || error.downcast_ref::<SettingError>().is_some();
    if is_invalid { ExitCode::from(EXIT_INVALID) } else { ExitCode::FAILURE }
}

/// The error and its causes in one line; a cause that an error already speaks of itself is not said twice.
fn with_causes(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |said, cause| if said.contains(&cause) { said } else { format!("{said}: {cause}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || anyhow::Error::from(io::Error::other("disk full"));
        assert_eq!(with_causes(&cause().context("a.txt cannot be written")), "a.txt cannot be written: disk full");
        assert_eq!(with_causes(&cause().context("a.txt: disk full").context("no copy")), "no copy: a.txt: disk full");
    }
}
