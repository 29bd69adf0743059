//! `cargo xtask ci`: everything that must pass before a change is taken, and a table of it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::workspace::Workspace;
use crate::{chaos, deny, fuzz, process, sim, testing, tidy};

/// Run everything that must pass before a change is taken, and print a table of it.
///
/// Stops at the first step that fails. The quick steps come first.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only this step; may be given several times
    #[arg(long, value_name = "STEP", value_enum)]
    only: Vec<Step>,
}

/// One check, in the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Step {
    /// Is the code laid out by rustfmt?
    Fmt,
    /// Are the house rules kept?
    Tidy,
    /// Does clippy have nothing to say about any target, benches included?
    Clippy,
    /// Is the documentation whole, its links included?
    Doc,
    /// Do all tests pass?
    Test,
    /// Are the delivery promises kept in a short simulation?
    Sim,
    /// Are the dependencies permitted?
    Deny,
    /// Do the first 40,000 inputs of each fuzz target find nothing?
    Fuzz,
    /// Do real processes that are killed and stopped keep the promises?
    Chaos,
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

/// Runs the steps and prints the table; an error names the step that failed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let steps = selected(&options.only);
    let mut failure = None;
    let endings = run_until_failure(&steps, |step| {
        println!("\n==> {}", name(step));
        match perform(workspace, step) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("error: {error:#}");
                failure = Some(step);
                false
            }
        }
    });
    println!("\n{}", table(&steps, &endings));
    match failure {
        None => Ok(()),
        Some(step) => bail!("ci: step `{}` failed; again, alone: cargo xtask ci --only {0}", name(step)),
    }
}

fn perform(workspace: &Workspace, step: Step) -> Result<()> {
    let mut cargo = workspace.cargo();
    match step {
        Step::Fmt => process::run(cargo.args(["fmt", "--all", "--check"])),
        Step::Tidy => tidy::run(workspace),
        Step::Clippy => {
            process::run(cargo.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
        }
        Step::Doc => {
            cargo.env("RUSTDOCFLAGS", "-D warnings");
            process::run(cargo.args(["doc", "--workspace", "--no-deps", "--locked"]))
        }
        Step::Test => testing::run(workspace, &testing::Options::everything()),
        Step::Sim => sim::run(workspace, &sim::Options::short()),
        Step::Deny => deny::run(workspace),
        Step::Fuzz => fuzz::run(workspace, &fuzz::Options::smoke()),
        Step::Chaos => chaos::run(workspace, &chaos::Options::smoke()),
    }
}

fn selected(only: &[Step]) -> Vec<Step> {
    let all = Step::value_variants().iter().copied();
    all.filter(|step| only.is_empty() || only.contains(step)).collect()
}

/// One ending per step; after a failure the rest is not run, because it would hide the message.
fn run_until_failure(steps: &[Step], mut passes: impl FnMut(Step) -> bool) -> Vec<Ending> {
    let mut failed = false;
    let mut endings = Vec::with_capacity(steps.len());
    for &step in steps {
        if failed {
            endings.push(Ending::NotRun);
            continue;
        }
        let started = Instant::now();
        failed = !passes(step);
        let taken = started.elapsed();
        endings.push(if failed { Ending::Failed(taken) } else { Ending::Passed(taken) });
    }
    endings
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Fmt => "fmt",
        Step::Tidy => "tidy",
        Step::Clippy => "clippy",
        Step::Doc => "doc",
        Step::Test => "test",
        Step::Sim => "sim",
        Step::Deny => "deny",
        Step::Fuzz => "fuzz",
        Step::Chaos => "chaos",
    }
}

fn table(steps: &[Step], endings: &[Ending]) -> String {
    let mut table = String::from("step     seconds  result\n");
    for (&step, &ending) in steps.iter().zip(endings) {
        let (taken, result) = match ending {
            Ending::Passed(taken) => (Some(taken), "ok"),
            Ending::Failed(taken) => (Some(taken), "FAILED"),
            Ending::NotRun => (None, "not run"),
        };
        let seconds = taken.map_or_else(|| "-".to_owned(), |taken| format!("{:.1}", taken.as_secs_f64()));
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{:<8} {seconds:>7}  {result}", name(step));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::ValueEnum;

    use super::{Ending, Step, name, run_until_failure, selected, table};

    #[test]
    fn the_first_failure_ends_the_run_and_is_seen_in_the_table() {
        let steps = [Step::Fmt, Step::Tidy, Step::Test];
        let mut ran = Vec::new();
        let endings = run_until_failure(&steps, |step| {
            ran.push(step);
            step != Step::Tidy
        });
        assert_eq!(ran, [Step::Fmt, Step::Tidy]);
        assert!(matches!(endings[..], [Ending::Passed(_), Ending::Failed(_), Ending::NotRun]));
        let table = table(&steps, &[Ending::Passed(Duration::from_millis(1_250)), endings[1], Ending::NotRun]);
        assert!(table.contains("fmt          1.2  ok"), "{table}");
        assert!(table.contains("FAILED"), "{table}");
        assert!(table.contains("test           -  not run"), "{table}");
    }

    #[test]
    fn steps_run_in_their_own_order_however_they_are_named() {
        assert_eq!(selected(&[Step::Test, Step::Fmt]), [Step::Fmt, Step::Test]);
        assert_eq!(selected(&[]), Step::value_variants());
    }

    #[test]
    fn a_step_is_called_by_the_name_it_is_printed_with() {
        for step in Step::value_variants() {
            assert_eq!(step.to_possible_value().unwrap().get_name(), name(*step));
        }
    }
}
