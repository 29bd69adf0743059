//! `cargo xtask test`: prepares what the tests need, then runs all of them.

use anyhow::Result;
use clap::Args;

use crate::postgres::{self, Postgres};
use crate::workspace::Workspace;
use crate::{node, process, python};

/// Where the tests find the prepared Python: an absolute path of its interpreter.
const PYTHON_VARIABLE: &str = "ZONECAST_TEST_PYTHON";

/// Prepare what the tests need and run all of them.
///
/// Some tests talk to the broker with a client written in Python. Their packages are installed, pinned, into an
/// environment of their own below the target directory; it is made once and used until the list of packages changes.
/// Logging in by another identity provider is tested with a certified one, written in JavaScript, whose packages are
/// installed, pinned, below the target directory.
/// The services are tested on SQLite and on a PostgreSQL server, which is started for this run and stopped after it; on
/// Debian and its like it is installed where it is missing.
/// Then `cargo test --workspace` runs every unit, integration and documentation test.
///
/// Any one test: `cargo xtask test -- -p zonecast-core some_test`.
#[derive(Args)]
pub(crate) struct Options {
    /// The Python to make the environment with, 3.11 or later
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,

    /// Do not prepare Python; the tests that need it will say that they did not run
    #[arg(long)]
    without_python: bool,

    /// Do not prepare the identity provider; the test that needs it will say that it did not run
    #[arg(long)]
    without_node: bool,

    /// Start no PostgreSQL server; the tests that need it will say that they did not run
    #[arg(long)]
    without_postgres: bool,

    /// Arguments for `cargo test` in the place of `--workspace --no-fail-fast`
    #[arg(last = true, value_name = "CARGO_TEST_ARGUMENTS")]
    arguments: Vec<String>,
}

impl Options {
    /// Everything, as `ci` runs it.
    pub(crate) fn everything() -> Self {
        Self {
            python: "python3".to_owned(),
            without_python: false,
            without_node: false,
            without_postgres: false,
            arguments: Vec::new(),
        }
    }

    /// What follows `cargo test --locked`.
    fn cargo_arguments(&self) -> Vec<&str> {
        if self.arguments.is_empty() {
            // All failures of a run are worth more than the first.
            vec!["--workspace", "--no-fail-fast"]
        } else {
            self.arguments.iter().map(String::as_str).collect()
        }
    }
}

/// Prepares and runs the tests; an error where any of them fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut tests = workspace.cargo();
    tests.args(["test", "--locked"]).args(options.cargo_arguments());
    if options.without_python {
        eprintln!("warning: --without-python: the tests with the Python client WILL NOT RUN");
        tests.env_remove(PYTHON_VARIABLE);
    } else {
        let python = python::prepared(workspace, &options.python)?;
        println!("{PYTHON_VARIABLE}={}", python.display());
        tests.env(PYTHON_VARIABLE, python);
    }
    if options.without_node {
        eprintln!("warning: --without-node: the test with a certified identity provider WILL NOT RUN");
        tests.env_remove(node::VARIABLE);
    } else {
        let provider = node::prepared(workspace)?;
        println!("{}={}", node::VARIABLE, provider.display());
        tests.env(node::VARIABLE, provider);
    }
    // Until the tests have ended.
    let mut server = None;
    if options.without_postgres {
        eprintln!("warning: --without-postgres: the tests on PostgreSQL WILL NOT RUN");
        tests.env_remove(postgres::VARIABLE);
    } else {
        let url = server.insert(Postgres::start()?).url();
        println!("{}={url}", postgres::VARIABLE);
        tests.env(postgres::VARIABLE, url);
    }
    process::run(&mut tests)
}

#[cfg(test)]
mod tests {
    use super::Options;

    #[test]
    fn all_tests_run_unless_some_are_named() {
        let mut options = Options::everything();
        assert_eq!(options.cargo_arguments(), ["--workspace", "--no-fail-fast"]);
        options.arguments = vec!["-p".into(), "zonecast-core".into()];
        assert_eq!(options.cargo_arguments(), ["-p", "zonecast-core"]);
    }
}
