//! The identity provider of the tests: a certified one, in JavaScript, installed once per list of packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};

use crate::process;
use crate::workspace::Workspace;

/// Where the tests find the program to run with `node`: an absolute path.
pub(crate) const VARIABLE: &str = "ZONECAST_TEST_PROVIDER";

/// The program and its packages, relative to the top level.
const PLACE: &str = "services/auth/tests/oidc";

/// The program, and the lists that pin its packages.
const PROGRAM: &str = "provider.mjs";
const FILES: [&str; 3] = [PROGRAM, "package.json", "package-lock.json"];

/// Its presence says that everything was installed.
const STAMP: &str = ".complete";

/// What to do where it cannot be.
const REMEDY: &str = "the tests with a certified identity provider need Node.js 18.14 or later with npm (Debian and \
    Ubuntu, as root: `apt-get update && apt-get install -y nodejs npm`), and the package registry within reach; \
    `cargo xtask test --without-node` runs all the other tests";

/// The program beside its packages; installs them where they are not. Two calls at once, from two shells, take turns.
pub(crate) fn prepared(workspace: &Workspace) -> Result<PathBuf> {
    let place = workspace.root().join(PLACE);
    let mut digest = Sha256::new();
    for file in FILES {
        digest.update(fs::read(place.join(file)).with_context(|| format!("cannot read {PLACE}/{file}"))?);
    }
    let short: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let directory = workspace.cache().join(format!("provider-{short}"));
    fs::create_dir_all(workspace.cache())?;
    let turn = File::create(workspace.cache().join("provider.lock"))?;
    turn.lock().context("cannot lock the packages of the identity provider")?;
    if !directory.join(STAMP).is_file() {
        install(&place, &directory)?;
    }
    Ok(directory.join(PROGRAM))
}

fn install(place: &Path, directory: &Path) -> Result<()> {
    let version = process::captured(Command::new("node").arg("--version"));
    version.map_err(|error| anyhow!("`node` does not run ({error:#}): {REMEDY}"))?;
    if directory.exists() {
        fs::remove_dir_all(directory).context("cannot remove an incomplete installation")?;
    }
    fs::create_dir_all(directory)?;
    for file in FILES {
        fs::copy(place.join(file), directory.join(file))?;
    }
    let mut npm = Command::new("npm");
    // Nothing that comes with a package runs on the way in.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(directory);
    process::run(&mut npm).map_err(|error| anyhow!("{error:#}: {REMEDY}"))?;
    fs::write(directory.join(STAMP), "")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{FILES, PLACE};
    use crate::workspace::Workspace;

    #[test]
    fn every_package_is_pinned_to_one_content() {
        let lock = Workspace::locate().unwrap().root().join(PLACE).join(FILES[2]);
        let lock: Value = serde_json::from_str(&std::fs::read_to_string(lock).unwrap()).unwrap();
        for (name, package) in lock["packages"].as_object().unwrap().iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{name}");
            // From whichever registry is configured.
            assert!(package["resolved"].is_null(), "{name}");
        }
    }
}
