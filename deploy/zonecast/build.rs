//! Puts the git commit into the binary, for `zonecast --version`.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=ZONECAST_COMMIT");
    // A commit moves its branch, a checkout moves HEAD, and `git gc` may pack the branches into one file.
    // A path that is missing would make every build run this again, hence the check.
    for path in ["HEAD", "refs/heads", "packed-refs"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let given = std::env::var("ZONECAST_COMMIT").ok().filter(|commit| !commit.trim().is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=ZONECAST_BUILD_COMMIT={}", commit.trim());
}

/// What git answers, or nothing where there is no git, no repository or no commit (a container build, a source archive).
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
