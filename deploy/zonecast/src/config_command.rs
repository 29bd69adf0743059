//! `zonecast config`: checks or prints the broker's configuration.

use std::io::{self, Write};

use crate::{
    cli::{self, CheckArgs, ConfigCommand, PrintArgs},
    settings::{self, Problems, Raw, Sources, flags::SettingFlags, show},
};

/// Runs the command.
///
/// # Errors
/// The configuration has problems.
pub(crate) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(args) => check(args),
        ConfigCommand::Print(args) => print(args),
    }
}

/// What the broker would start with.
pub(crate) fn sources<A>(flags: SettingFlags<A>) -> Sources {
    settings::sources(flags.config, flags.values, cli::known_variables())
}

fn check(args: CheckArgs) -> anyhow::Result<()> {
    let sources = sources(args.settings);
    if args.services {
        settings::load_services(&sources)?;
    } else {
        settings::load(&sources)?;
    }
    writeln!(io::stdout(), "ok")?;
    Ok(())
}

/// Prints also what is not accepted, so that one sees where it comes from, and then what is wrong with it.
fn print(args: PrintArgs) -> anyhow::Result<()> {
    if args.example {
        io::stdout().write_all(show::example().as_bytes())?;
        return Ok(());
    }
    let mut problems = Vec::new();
    let raw = Raw::gather(&sources(args.settings), &mut problems);
    let text = if args.json { show::as_json(&raw) } else { show::as_text(&raw) };
    io::stdout().write_all(text.as_bytes())?;
    settings::check_values(&raw, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems).into()) }
}
