//! `cargo xtask deny`: cargo-deny with the rules of `.deny.toml`.
//!
//! Bans, version floors, licences and sources are always checked, from the lock file alone. Published advisories are
//! in a repository that not every machine can reach; where it cannot be, that is said aloud, and the floors for
//! advisories known when `.deny.toml` was last edited stand in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// The cargo-deny that the configuration is written for.
const VERSION: &str = "0.20.2";

/// The rules, relative to the top level.
const RULES: &str = ".deny.toml";

/// As published, the tool is built for speed with one thread; it runs for seconds, so build it quickly instead.
const QUICK_BUILD: [&str; 3] =
    ["profile.release.lto=\"off\"", "profile.release.opt-level=0", "profile.release.codegen-units=16"];

/// Runs all checks; an error where any rule is broken.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tool = installed(workspace)?;
    // A wrapper is who may name a crate, not who does.
    let checks = ["check", "--allow", "unused-wrapper", "bans", "licenses", "sources"];
    process::run(cargo_deny(workspace, &tool).args(checks)).with_context(|| format!("a rule of {RULES} is broken"))?;
    match process::captured(cargo_deny(workspace, &tool).args(["fetch", "db"])) {
        Ok(_) => process::run(cargo_deny(workspace, &tool).args(["check", "advisories"]))
            .context("a dependency has a published advisory"),
        Err(error) => {
            println!("{}", advisories_not_checked(&format!("{error:#}")));
            Ok(())
        }
    }
}

/// What is said where the advisories are out of reach.
fn advisories_not_checked(reason: &str) -> String {
    let line = "!".repeat(100);
    format!(
        "{line}\n!!! ADVISORIES NOT CHECKED: the advisory database cannot be reached from here.\n\
         !!! The version floors in {RULES} stand in: they know the advisories published up to its last edit.\n\
         !!! Run `cargo xtask deny` where the database can be reached before a release.\n{line}\n{}",
        reason.lines().last().unwrap_or_default()
    )
}

fn cargo_deny(workspace: &Workspace, tool: &Path) -> Command {
    let mut command = workspace.program(tool);
    command.args(["--locked", "--config", RULES]);
    // Never ask for a password, and give up on a line that stalls.
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .env("GIT_HTTP_LOW_SPEED_TIME", "20");
    command
}

/// The tool in exactly the version above: from the search path where it is there, else built once into the cache.
fn installed(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.cache().join("tools");
    let built = tools.join("bin").join(if cfg!(windows) { "cargo-deny.exe" } else { "cargo-deny" });
    for candidate in [PathBuf::from("cargo-deny"), built.clone()] {
        if process::captured(Command::new(&candidate).arg("--version")).is_ok_and(|answer| is_wanted(&answer)) {
            return Ok(candidate);
        }
    }
    println!("building cargo-deny {VERSION}, once; this takes some minutes");
    let build = workspace.cache().join("tools-build");
    let mut install = workspace.cargo();
    install.args(["install", "--locked", "--force", "--root"]).arg(&tools).arg("--target-dir").arg(&build);
    for setting in QUICK_BUILD {
        install.args(["--config", setting]);
    }
    process::run(install.arg(format!("cargo-deny@{VERSION}"))).context("cargo-deny could not be built")?;
    // Half a gigabyte that nobody needs again; that it stays would be no fault.
    let _ = fs::remove_dir_all(build);
    Ok(built)
}

fn is_wanted(answer: &str) -> bool {
    answer.trim().strip_prefix("cargo-deny ") == Some(VERSION)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{RULES, advisories_not_checked, is_wanted};
    use crate::workspace::Workspace;

    fn banned() -> Vec<String> {
        let text = fs::read_to_string(Workspace::locate().unwrap().root().join(RULES)).unwrap();
        let rules: toml::Table = text.parse().unwrap();
        let banned = rules["bans"]["deny"].as_array().unwrap().iter();
        banned.map(|ban| ban["crate"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_rules_hold_what_the_design_asks_for() {
        let banned = banned();
        let asked = [
            "ring",
            "openssl",
            "native-tls",
            "rsa",
            "rustls-pemfile",
            "openidconnect",
            "bincode",
            "serde_yaml",
            "quinn:<0.11.12",
            "quinn-proto:<0.11.19",
            "rustls:<0.23.46",
            "rustls:>=0.24.0-dev.0",
        ];
        for ban in asked {
            assert!(banned.iter().any(|known| known == ban), "{RULES} lost its ban of {ban}");
        }
    }

    #[test]
    fn only_the_pinned_version_will_do() {
        assert!(is_wanted("cargo-deny 0.20.2\n"));
        assert!(!is_wanted("cargo-deny 0.20.20\n"));
        assert!(!is_wanted("cargo-deny 0.19.0\n"));
    }

    #[test]
    fn unchecked_advisories_are_told_aloud_with_the_reason() {
        let told = advisories_not_checked("`cargo-deny fetch db` failed\nfatal: could not resolve host");
        assert!(told.contains("ADVISORIES NOT CHECKED"), "{told}");
        assert!(told.ends_with("could not resolve host"), "{told}");
    }
}
