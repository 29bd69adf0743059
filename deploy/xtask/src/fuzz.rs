//! `cargo xtask fuzz`: every fuzz target for a while, from the corpus that is kept in the tree.
//!
//! Fuzzing needs a nightly compiler. Where there is none, that is said aloud, and nothing has been shown.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::workspace::Workspace;
use crate::{process, tool};

/// The cargo-fuzz that the targets are written for.
const VERSION: &str = "0.13.2";

/// Packages with fuzz targets, relative to the top level.
const PACKAGES: [&str; 3] = ["protocol/fuzz", "broker/core/fuzz", "client/fuzz"];

/// An input that takes longer is a finding, in seconds: long for a hang, and enough for a machine that is busy.
const INPUT_SECONDS_MAX: u32 = 30;

/// Memory beyond which an input is a finding, in MiB. The sanitizer's own bookkeeping is most of it.
const MEMORY_MIB_MAX: u32 = 2048;

/// Fuzz every decoder and state machine for a while; needs a nightly compiler
///
/// Runs all targets, or those that are named, one after the other, from the corpus in the tree. What is found on the way
/// is kept below the target directory and used the next time. Builds cargo-fuzz first where it is not there: once.
/// Says so aloud where there is no nightly compiler.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Try no more than so many inputs for each target
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// Try the same inputs in the same order each time, as far as the seconds reach; by default others every time
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Run only this target; may be given several times
    #[arg(long, value_name = "TARGET")]
    only: Vec<String>,
}

impl Options {
    /// A short look: at most a minute for every target. The same inputs each time, so that it fails by what was changed and
    /// not by chance: new ones are for longer runs to find.
    pub(crate) fn smoke() -> Self {
        Self { seconds: 60, runs: Some(40_000), seed: Some(1), only: Vec::new() }
    }
}

/// Runs the targets; an error where one finds something.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let Err(error) = process::captured(workspace.program("rustup").args(["run", "nightly", "rustc", "--version"])) {
        println!("{}", not_fuzzed(&format!("{error:#}")));
        return Ok(());
    }
    let tool = tool::installed(workspace, "cargo-fuzz", VERSION)?;
    let mut known = Vec::new();
    for package in PACKAGES {
        let targets = process::captured(cargo_fuzz(workspace, &tool).args(["list", "--fuzz-dir", package]))?;
        for target in targets.lines() {
            known.push(target.to_owned());
            if options.only.is_empty() || options.only.iter().any(|only| only == target) {
                fuzz(workspace, &tool, package, target, options)?;
            }
        }
    }
    ensure!(!known.is_empty(), "no fuzz target was found");
    let unknown: Vec<_> = options.only.iter().filter(|only| !known.contains(only)).collect();
    ensure!(unknown.is_empty(), "no such target: {unknown:?}; there are {}", known.join(", "));
    Ok(())
}

fn fuzz(workspace: &Workspace, tool: &Path, package: &str, target: &str, options: &Options) -> Result<()> {
    let Options { seconds, runs, seed, .. } = options;
    let cache = workspace.cache().join("fuzz");
    // What is found goes into the first of them; the one in the tree is only read.
    let found = cache.join("corpus").join(package).join(target);
    let kept = Path::new(package).join("corpus").join(target);
    let findings = cache.join("findings").join(package).join(target);
    for directory in [&found, &findings] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    ensure!(workspace.root().join(&kept).is_dir(), "{} is missing: each target has a corpus", kept.display());
    let mut command = cargo_fuzz(workspace, tool);
    command.args(["run", "--fuzz-dir", package, "--target-dir"]).arg(cache.join("target")).arg(target);
    command.arg(&found).arg(workspace.root().join(&kept)).arg("--");
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    if let Some(runs) = runs {
        command.arg(format!("-runs={runs}"));
    }
    if let Some(seed) = seed {
        command.arg(format!("-seed={seed}"));
    }
    // Quiet but for what is found, and for the counts at the end.
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}")).args(["-verbosity=0", "-print_final_stats=1"]);
    // A directory, which the slash says.
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    if let Err(error) = process::run(&mut command) {
        bail!(
            "fuzz target {target} of {package} has found something; the input is in {}\n{error:#}",
            findings.display()
        );
    }
    Ok(())
}

/// The tool, with the nightly compiler whatever the one that runs us.
fn cargo_fuzz(workspace: &Workspace, tool: &Path) -> Command {
    let mut command = workspace.program("rustup");
    command.args(["run", "nightly"]).arg(tool);
    // Set by the cargo that runs us, which is another one.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
}

/// What is said where there is no nightly compiler.
fn not_fuzzed(reason: &str) -> String {
    let line = "!".repeat(100);
    format!(
        "{line}\n!!! NOT FUZZED: there is no nightly compiler here, and libFuzzer needs one.\n\
         !!! Run `rustup toolchain install nightly`, then `cargo xtask fuzz`, before a release.\n{line}\n{}",
        reason.lines().last().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::{PACKAGES, not_fuzzed};
    use crate::workspace::Workspace;

    #[test]
    fn every_target_has_a_corpus_and_the_other_way_round() {
        let workspace = Workspace::locate().unwrap();
        for package in PACKAGES {
            let place = workspace.root().join(package);
            let manifest: toml::Table = std::fs::read_to_string(place.join("Cargo.toml")).unwrap().parse().unwrap();
            let targets =
                manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
            let mut targets: Vec<String> = targets.collect();
            let corpora = std::fs::read_dir(place.join("corpus")).unwrap().map(|entry| entry.unwrap());
            let mut corpora: Vec<String> = corpora.map(|entry| entry.file_name().into_string().unwrap()).collect();
            targets.sort();
            corpora.sort();
            assert_eq!(targets, corpora, "{package}");
        }
    }

    #[test]
    fn a_missing_compiler_is_told_aloud_with_the_reason() {
        let told = not_fuzzed("`rustup run nightly rustc --version` failed\nerror: toolchain is not installed");
        assert!(told.contains("NOT FUZZED"), "{told}");
        assert!(told.ends_with("toolchain is not installed"), "{told}");
    }
}
