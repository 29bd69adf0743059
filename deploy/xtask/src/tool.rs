//! Programs that cargo can build and that a checkout does not bring along.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

/// As published, the tools are built for speed with one thread; they run for seconds, so build them quickly instead.
const QUICK_BUILD: [&str; 3] =
    ["profile.release.lto=\"off\"", "profile.release.opt-level=0", "profile.release.codegen-units=16"];

/// The tool in exactly this version: from the search path where it is there, else built once into the cache.
pub(crate) fn installed(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let tools = workspace.cache().join("tools");
    let built = tools.join("bin").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    for candidate in [PathBuf::from(name), built.clone()] {
        // Some want to be called as cargo calls them: with their own name first.
        for name_first in [None, name.strip_prefix("cargo-")] {
            let answer = process::captured(Command::new(&candidate).args(name_first).arg("--version"));
            if answer.is_ok_and(|answer| is_wanted(&answer, name, version)) {
                return Ok(candidate);
            }
        }
    }
    println!("building {name} {version}, once; this takes some minutes");
    let build = workspace.cache().join("tools-build");
    let mut install = workspace.cargo();
    install.args(["install", "--locked", "--force", "--root"]).arg(&tools).arg("--target-dir").arg(&build);
    for setting in QUICK_BUILD {
        install.args(["--config", setting]);
    }
    process::run(install.arg(format!("{name}@{version}"))).with_context(|| format!("{name} could not be built"))?;
    // Half a gigabyte that nobody needs again; that it stays would be no fault.
    let _ = fs::remove_dir_all(build);
    Ok(built)
}

fn is_wanted(answer: &str, name: &str, version: &str) -> bool {
    answer.trim().split_once(' ') == Some((name, version))
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn only_the_pinned_version_will_do() {
        assert!(is_wanted("cargo-deny 0.20.2\n", "cargo-deny", "0.20.2"));
        assert!(!is_wanted("cargo-deny 0.20.20\n", "cargo-deny", "0.20.2"));
        assert!(!is_wanted("cargo-deny 0.19.0\n", "cargo-deny", "0.20.2"));
        assert!(!is_wanted("cargo-fuzz 0.20.2\n", "cargo-deny", "0.20.2"));
    }
}
