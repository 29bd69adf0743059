//! The Python environment of the tests: a virtual environment with pinned packages, made once per list of packages.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};

use crate::process;
use crate::workspace::Workspace;

/// The list of packages, relative to the top level.
const REQUIREMENTS: &str = "deploy/xtask/requirements.txt";

/// Its presence in an environment says that everything was installed; an interrupted installation lacks it.
const STAMP: &str = ".complete";

/// The oldest Python for which every pinned package is published.
const PYTHON_MIN: Version = Version { major: 3, minor: 11 };

/// Version of a Python, without the patch level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Version {
    major: u32,
    minor: u32,
}

/// The interpreter of an environment that holds all packages of the list; makes the environment where there is none.
///
/// `python` is the program to make it with. Two calls at once, from two shells, take turns.
pub(crate) fn prepared(workspace: &Workspace, python: &str) -> Result<PathBuf> {
    let requirements = workspace.root().join(REQUIREMENTS);
    let list = fs::read_to_string(&requirements).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    fs::create_dir_all(workspace.cache())?;
    let turn = File::create(workspace.cache().join("venv.lock"))?;
    turn.lock().context("cannot lock the Python environment")?;

    let environment = workspace.cache().join(environment_name(&list));
    let interpreter = interpreter_of(&environment);
    if environment.join(STAMP).is_file() && runs(&interpreter) {
        return Ok(interpreter);
    }
    if environment.exists() {
        fs::remove_dir_all(&environment).context("cannot remove an incomplete Python environment")?;
    }
    let started = Instant::now();
    println!("preparing Python for the tests in {}", environment.display());
    check_interpreter(python)?;
    install(python, &environment, &interpreter, &requirements)?;
    fs::write(environment.join(STAMP), &list)?;
    println!("prepared in {:.0} s; the next run finds it ready", started.elapsed().as_secs_f64());
    Ok(interpreter)
}

/// One environment per list of packages, so that switching branches does not mix them.
fn environment_name(list: &str) -> String {
    let digest = Sha256::digest(list.as_bytes());
    let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("venv-{short}")
}

fn interpreter_of(environment: &Path) -> PathBuf {
    environment.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

/// False for an environment whose Python was since removed or upgraded away.
fn runs(interpreter: &Path) -> bool {
    process::captured(Command::new(interpreter).args(["-c", "pass"])).is_ok()
}

/// Refuses, with the remedy, what cannot work: no Python, an old one, one without `venv` or `pip`.
fn check_interpreter(python: &str) -> Result<()> {
    let question = "import sys; print('%d.%d' % sys.version_info[:2])";
    let answer = process::captured(Command::new(python).args(["-c", question])).map_err(|error| {
        anyhow!("{}", remedy(&format!("`{python}` does not run ({error:#})"), "install Python 3.11 or later"))
    })?;
    let version = parsed_version(&answer).with_context(|| format!("`{python}` gave no version: {answer:?}"))?;
    ensure!(
        version >= PYTHON_MIN,
        "{}",
        remedy(
            &format!("`{python}` is Python {}.{}, and the pinned packages need 3.11", version.major, version.minor),
            "name a later one with `--python PROGRAM`",
        )
    );
    process::captured(Command::new(python).args(["-c", "import venv, ensurepip"])).map_err(|_| {
        anyhow!("{}", remedy(&format!("`{python}` cannot make virtual environments with pip"), "install those modules"))
    })?;
    Ok(())
}

fn parsed_version(answer: &str) -> Option<Version> {
    let (major, minor) = answer.trim().split_once('.')?;
    Some(Version { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// What is wrong and what to do about it, in one message.
fn remedy(problem: &str, advice: &str) -> String {
    format!(
        "{problem}\n  The tests with the Python client need it. Remedy: {advice}\n  \
         (Debian and Ubuntu, as root: `apt-get update && apt-get install -y python3 python3-venv python3-pip`),\n  \
         or run all the other tests with `cargo xtask test --without-python`."
    )
}

/// Makes the environment. Only wheels, so that nothing is compiled and no package runs code on the way in; only what
/// the list names, so that two machines get the same.
fn install(python: &str, environment: &Path, interpreter: &Path, requirements: &Path) -> Result<()> {
    process::run(Command::new(python).args([OsStr::new("-m"), OsStr::new("venv"), environment.as_os_str()]))
        .map_err(|error| anyhow!("{}", remedy(&format!("{error:#}"), "install the module `venv`")))?;
    let mut pip = pip(interpreter);
    pip.args(["install", "--quiet", "--retries", "5", "--only-binary=:all:", "--no-deps", "--requirement"]);
    process::run(pip.arg(requirements)).context(
        "the Python packages could not be installed: is the package registry within reach, and are the pinned \
         versions published for this Python? (`cargo xtask test --without-python` runs all the other tests)",
    )?;
    process::run(self::pip(interpreter).arg("check")).with_context(|| format!("{REQUIREMENTS} is not a closed list"))
}

fn pip(interpreter: &Path) -> Command {
    let mut pip = Command::new(interpreter);
    pip.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]);
    // Some machines set this for everybody, and pip then refuses to work in an environment that is none.
    pip.env_remove("PIP_REQUIRE_VIRTUALENV").env_remove("PYTHONHOME");
    if env::var_os("PYTHONPATH").is_some() {
        pip.env_remove("PYTHONPATH");
    }
    pip
}

#[cfg(test)]
mod tests {
    use super::{REQUIREMENTS, Version, check_interpreter, environment_name, parsed_version};
    use crate::workspace::Workspace;

    #[test]
    fn another_list_is_another_environment() {
        assert_ne!(environment_name("a==1\n"), environment_name("a==2\n"));
        assert_eq!(environment_name("a==1\n"), environment_name("a==1\n"));
        assert!(environment_name("").starts_with("venv-"));
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(parsed_version("3.11\n"), Some(Version { major: 3, minor: 11 }));
        assert!(parsed_version("3.9") < parsed_version("3.11"));
        assert_eq!(parsed_version("Python"), None);
    }

    #[test]
    fn a_missing_python_is_told_with_its_remedy() {
        let message = check_interpreter("zonecast-no-such-python").unwrap_err().to_string();
        assert!(message.contains("zonecast-no-such-python"), "{message}");
        assert!(message.contains("apt-get install"), "{message}");
        assert!(message.contains("--without-python"), "{message}");
    }

    #[test]
    fn every_package_is_pinned_to_one_version() {
        let list = std::fs::read_to_string(Workspace::locate().unwrap().root().join(REQUIREMENTS)).unwrap();
        for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, version) = line.split_once("==").unwrap_or_else(|| panic!("not pinned: {line}"));
            assert!(!name.is_empty() && version.starts_with(|first: char| first.is_ascii_digit()), "{line}");
        }
    }
}
