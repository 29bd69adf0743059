//! `cargo xtask mutants`: what the tests of the pure packages do not notice.
//!
//! What came of it, and which faults are left on purpose, is in `broker/RELIABILITY.md`.

use std::fs;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::workspace::Workspace;
use crate::{process, tool};

/// The cargo-mutants whose faults are counted in `broker/RELIABILITY.md`.
const VERSION: &str = "27.1.0";

/// Packages that are a function of their arguments: their own tests must notice every fault that matters.
const PACKAGES: [&str; 2] = ["zonecast-protocol", "zonecast-core"];

/// A test run that takes longer is one that does not end, in seconds. The slowest takes 4 on an idle machine.
const TEST_SECONDS_MAX: &str = "60";

/// The same of a build, which takes a minute where the packages from elsewhere are to be built.
const BUILD_SECONDS_MAX: &str = "600";

/// Put one fault after the other into the pure packages, and see whether their own tests notice
///
/// Takes about 3 seconds for each of 300 faults of zonecast-protocol and 6 for each of 650 of zonecast-core: an hour and
/// a half in all on one idle core, which is why `cargo xtask ci` leaves it out. `--shard` and `--file` take a part of
/// it. Works on a copy of the tree, with the settings of `.cargo/mutants.toml`. Builds cargo-mutants first where it is
/// not there: once, and says so.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this package: zonecast-protocol or zonecast-core
    #[arg(long, value_name = "P", value_parser = PACKAGES)]
    package: Option<String>,
    /// Only the Kth of N parts, counted from 0
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Only files that match this glob, as `broker/core/src/outbox/*.rs`; may be given several times
    #[arg(long, value_name = "F")]
    file: Vec<String>,
}

/// Runs them; an error where a fault was not noticed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let tool = tool::installed(workspace, "cargo-mutants", VERSION)?;
    let results = workspace.cache().join("mutants");
    // The tool makes only the last directory of the path itself.
    fs::create_dir_all(&results).with_context(|| format!("cannot make {}", results.display()))?;
    let mut unnoticed = Vec::new();
    for package in PACKAGES.into_iter().filter(|package| options.package.as_deref().is_none_or(|only| only == *package))
    {
        let mut command = workspace.program(&tool);
        command.arg("mutants").args(arguments(package, options)).arg("--output").arg(results.join(package));
        // Built apart, so that the next run and the next fault find what they need, and nobody else waits for the lock.
        command.env("CARGO_TARGET_DIR", results.join("target"));
        // Nobody looks at a backtrace; it is the linking that takes the time.
        command.envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_PROFILE_TEST_DEBUG", "0")]);
        if let Err(error) = process::run(&mut command) {
            unnoticed.push(format!("{package}: {error:#}"));
        }
    }
    if unnoticed.is_empty() {
        return Ok(());
    }
    bail!("not every fault was noticed; they are listed below {}\n{}", results.display(), unnoticed.join("\n"))
}

/// One job: two would share the time of the machine, and tests that are slow for that would count as endless.
fn arguments(package: &str, options: &Options) -> Vec<String> {
    let mut arguments = vec!["--package", package, "--jobs", "1", "--timeout", TEST_SECONDS_MAX];
    arguments.extend(["--build-timeout", BUILD_SECONDS_MAX]);
    if let Some(shard) = &options.shard {
        arguments.extend(["--shard", shard]);
    }
    for file in &options.file {
        arguments.extend(["--file", file]);
    }
    arguments.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{Options, arguments};

    #[test]
    fn a_part_is_asked_for_as_the_tool_wants_it() {
        let options =
            Options { package: None, shard: Some("1/4".to_owned()), file: vec!["a.rs".into(), "b/*.rs".into()] };
        let line = arguments("zonecast-core", &options).join(" ");
        assert!(line.starts_with("--package zonecast-core "), "{line}");
        assert!(line.ends_with(" --shard 1/4 --file a.rs --file b/*.rs"), "{line}");
    }

    #[test]
    fn the_settings_are_there_and_leave_out_what_they_say() {
        let workspace = crate::workspace::Workspace::locate().unwrap();
        let settings = std::fs::read_to_string(workspace.root().join(".cargo/mutants.toml")).unwrap();
        let settings: toml::Table = settings.parse().unwrap();
        assert_eq!(settings["additional_cargo_test_args"].as_array().unwrap().len(), 2);
        assert!(settings["exclude_re"].as_array().unwrap().len() < 10, "a fault left out is one that nobody looks for");
    }
}
