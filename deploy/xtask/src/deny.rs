//! `cargo xtask deny`: cargo-deny with the rules of `.deny.toml`.
//!
//! Bans, version floors, licences and sources are always checked, from the lock file alone. Published advisories are
//! in a repository that not every machine can reach; where it cannot be, that is said aloud, and the floors for
//! advisories known when `.deny.toml` was last edited stand in.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{process, tool};

/// The cargo-deny that the configuration is written for.
const VERSION: &str = "0.20.2";

/// The rules, relative to the top level.
const RULES: &str = ".deny.toml";

/// Runs all checks; an error where any rule is broken.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tool = tool::installed(workspace, "cargo-deny", VERSION)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{RULES, advisories_not_checked};
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
    fn unchecked_advisories_are_told_aloud_with_the_reason() {
        let told = advisories_not_checked("`cargo-deny fetch db` failed\nfatal: could not resolve host");
        assert!(told.contains("ADVISORIES NOT CHECKED"), "{told}");
        assert!(told.ends_with("could not resolve host"), "{told}");
    }
}
