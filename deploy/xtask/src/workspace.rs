//! Where the workspace is, and how cargo is called in it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The checkout that this command works on.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cargo: OsString,
}

/// The two fields of `cargo metadata --no-deps` that are needed.
#[derive(Deserialize)]
struct Directories {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo for the workspace around the current directory.
    pub(crate) fn locate() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = cargo_command(&cargo);
        command.args(["metadata", "--format-version", "1", "--no-deps"]);
        let directories: Directories =
            serde_json::from_str(&process::captured(&mut command)?).context("cargo metadata printed no directories")?;
        Ok(Self { root: directories.workspace_root, target: directories.target_directory, cargo })
    }

    /// The top-level directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where this tool keeps what it made: below the target directory, so that `cargo clean` takes it away.
    pub(crate) fn cache(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// The cargo that runs us, to be run at the top level.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo_command(&self.cargo);
        command.current_dir(&self.root);
        command
    }

    /// Any other program, to be run at the top level.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }
}

/// `cargo run` describes the package that it runs in variables; build scripts that watch those would run again
/// whenever a build is started from here and again when it is not.
fn cargo_command(cargo: &OsString) -> Command {
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_a_package) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_a_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{Workspace, describes_a_package};

    #[test]
    fn the_workspace_is_found_from_a_member() {
        let workspace = Workspace::locate().unwrap();
        assert!(workspace.root().join("deploy/xtask/Cargo.toml").is_file());
    }

    #[test]
    fn settings_reach_cargo_and_package_variables_do_not() {
        assert!(describes_a_package("CARGO_PKG_NAME"));
        assert!(describes_a_package("CARGO_MANIFEST_DIR"));
        assert!(!describes_a_package("CARGO_HOME"));
        assert!(!describes_a_package("CARGO_TARGET_DIR"));
        assert!(!describes_a_package("CARGO_INCREMENTAL"));
    }
}
