//! `cargo xtask chaos`: builds the broker and the chaos program, prepares its tools, and runs it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// The tools that harm packets, with the Debian package that each is in.
const TOOLS: [(&str, &str); 3] = [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")];

/// Kill, stop and cut off real brokers and clients, and see whether the delivery promises hold.
///
/// Builds what is needed in release mode. Where this runs as root, missing tools are installed with apt-get, so that
/// packets can be lost too. Takes the options of the program: `cargo xtask chaos --help` shows them.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the chaos program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

impl Options {
    /// Everything in small, as `ci` runs it.
    pub(crate) fn smoke() -> Self {
        Self { options: ["--seconds", "20"].map(str::to_owned).to_vec() }
    }
}

/// Builds and runs it; an error where a promise was broken. Standard output is the program's alone.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "zonecast", "--package", "zonecast-trials"]);
    cargo.args(["--bin", "zonecast", "--bin", "chaos"]);
    process::run_unseen(&mut cargo)?;
    prepare_tools();
    let programs = workspace.target().join("release");
    let mut chaos = workspace.program(programs.join("chaos"));
    chaos.arg("--zonecast").arg(programs.join("zonecast")).args(&options.options);
    process::run_unseen(&mut chaos)
}

/// Installs what is missing, where that is possible. What is missing still, the program says itself, aloud.
fn prepare_tools() {
    let missing =
        missing(|tool| ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|p| Path::new(p).join(tool).is_file()));
    if missing.is_empty() || !process::captured(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return;
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        process::captured(&mut apt)
    };
    let install: Vec<&str> = ["install", "--yes", "--no-install-recommends"].into_iter().chain(missing).collect();
    // The list of packages may be old or absent; it is fetched only where that matters.
    let installed = apt(&install).or_else(|_| apt(&["update"]).and_then(|_| apt(&install)));
    if let Err(error) = installed {
        eprintln!("warning: the tools that harm packets cannot be installed: {error:#}");
    }
}

/// The packages of the tools that are not there.
fn missing(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<_> = TOOLS.iter().filter(|(tool, _)| !is_there(tool)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn a_package_is_installed_once() {
        assert_eq!(missing(|_| false), ["iproute2", "nftables"]);
        assert_eq!(missing(|tool| tool != "nft"), ["nftables"]);
        assert!(missing(|_| true).is_empty());
    }
}
