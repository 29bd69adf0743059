//! The PostgreSQL of the tests: a server for this run alone, started before them and stopped after them.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process;

/// Where the tests find the server: the URL of its database `postgres`.
pub(crate) const VARIABLE: &str = "ZONECAST_TEST_POSTGRES";

/// Where Debian and its like put the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Whose cluster it is where we are root: the server refuses to run as root.
const ACCOUNT: &str = "postgres";

/// What the server says when it serves.
const READY: &str = "database system is ready to accept connections";

/// Longest time that a server takes to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

const SETTINGS: [&str; 3] = ["listen_addresses=", "max_connections=200", "log_min_messages=log"];

/// Of a server for tests: what a loss of power would cost is nothing.
const HASTE: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

/// A running server; it ends, and its files go, when this is dropped.
pub(crate) struct Postgres {
    child: Child,
    place: PathBuf,
}

impl Postgres {
    /// Starts a server in a directory of its own, on a Unix socket in it. Installs PostgreSQL where it is missing and
    /// can be.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&HASTE)
    }

    /// As [`start`](Self::start), for what is measured: a commit is on the disk.
    pub(crate) fn start_durable() -> Result<Self> {
        Self::start_with(&[])
    }

    fn start_with(settings: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let account = Account::find()?;
        // Not below the target directory: another account may have no way to it, and a socket's path must be short.
        let place = env::temp_dir().join(format!("zonecast-postgres-{}", std::process::id()));
        fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?;
        let started = Self::start_in(&place, &programs, account.as_ref(), settings);
        if started.is_err() {
            let _ = fs::remove_dir_all(&place);
        }
        started.map(|child| Self { child, place })
    }

    fn start_in(place: &Path, programs: &Path, account: Option<&Account>, settings: &[&str]) -> Result<Child> {
        fs::set_permissions(place, fs::Permissions::from_mode(0o700))?;
        if let Some(account) = account {
            chown(place, Some(account.user), Some(account.group))?;
        }
        let data = place.join("data");
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "zonecast", "-E", "UTF8", "-A", "trust", "--no-locale", "--no-sync"]);
        process::captured(Account::assume(account, &mut initdb).current_dir(place))
            .context("no cluster can be made")?;
        let mut server = Command::new(programs.join("postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(place);
        for setting in SETTINGS.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            Account::assume(account, &mut server).current_dir(place).spawn().context("cannot start postgres")?;
        if let Err(error) = wait_until_ready(&mut child) {
            let _ = child.kill();
            return Err(error);
        }
        Ok(child)
    }

    /// The URL for [`VARIABLE`].
    pub(crate) fn url(&self) -> String {
        format!("postgres://zonecast@localhost/postgres?host={}", self.place.display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // In order: a server that is killed leaves shared memory behind.
        let interrupt = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        if interrupt.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// Reads what the server says, to its end, so that it never waits for a reader.
fn wait_until_ready(child: &mut Child) -> Result<()> {
    let said = child.stderr.take().context("the server's output is not ours")?;
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            if line.contains(READY) {
                let _ = ready.send(Ok(()));
            } else if lines.len() < 100 {
                lines.push(line);
            }
        }
        let _ = ready.send(Err(lines.join("\n")));
    });
    match is_ready.recv_timeout(START_TIMEOUT) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(lines)) => bail!("PostgreSQL ended at its start:\n{lines}"),
        Err(_) => bail!("PostgreSQL is not ready after {} s", START_TIMEOUT.as_secs()),
    }
}

/// An account to run the server as.
struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// PostgreSQL's own where we are root; none, our own, where we are not.
    fn find() -> Result<Option<Self>> {
        let id = |arguments: &[&str]| -> Result<u32> {
            let answer = process::captured(Command::new("id").args(arguments))?;
            answer.trim().parse().with_context(|| format!("`id` answered {answer:?}"))
        };
        if id(&["-u"])? != 0 {
            return Ok(None);
        }
        let of_account = |flag| id(&[flag, ACCOUNT]).with_context(|| format!("root needs the account {ACCOUNT}"));
        Ok(Some(Self { user: of_account("-u")?, group: of_account("-g")? }))
    }

    fn assume<'a>(account: Option<&Self>, command: &'a mut Command) -> &'a mut Command {
        match account {
            Some(account) => command.uid(account.user).gid(account.group),
            None => command,
        }
    }
}

/// The directory of `initdb` and `postgres`.
fn programs() -> Result<PathBuf> {
    if let Some(found) = find_programs() {
        return Ok(found);
    }
    install().map_err(|error| anyhow!("{}", remedy(&format!("{error:#}"))))?;
    find_programs().ok_or_else(|| anyhow!("{}", remedy("it was installed, but `initdb` is not found")))
}

fn find_programs() -> Option<PathBuf> {
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut versions: Vec<PathBuf> =
        fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    // The latest first.
    versions.sort_by_key(|path| std::cmp::Reverse(version(path)));
    on_path.into_iter().chain(versions).find(|path| ["initdb", "postgres"].iter().all(|name| path.join(name).is_file()))
}

fn version(programs: &Path) -> u32 {
    let name = programs.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or_default()
}

/// By Debian's package manager, where there is one and we may.
fn install() -> Result<()> {
    println!("installing PostgreSQL for the tests");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        process::run(apt.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    ensure!(process::captured(Command::new("id").arg("-u"))?.trim() == "0", "only root can install it");
    apt(&["update", "-q"])?;
    apt(&["install", "-q", "-y", "--no-install-recommends", "postgresql"])
}

fn remedy(problem: &str) -> String {
    format!(
        "PostgreSQL is not there: {problem}\n  The services are tested on a real server. Remedy: install it\n  \
         (Debian and Ubuntu, as root: `apt-get update && apt-get install -y postgresql`),\n  \
         or run all the other tests with `cargo xtask test --without-postgres`."
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{remedy, version};

    #[test]
    fn the_latest_version_is_known_by_its_number() {
        assert!(version(Path::new("/usr/lib/postgresql/17/bin")) > version(Path::new("/usr/lib/postgresql/9/bin")));
        assert_eq!(version(Path::new("/usr/local/bin")), 0);
    }

    #[test]
    fn a_missing_server_is_told_with_its_remedy() {
        let message = remedy("`apt-get` cannot be started");
        for word in ["apt-get` cannot", "apt-get install", "--without-postgres"] {
            assert!(message.contains(word), "{message}");
        }
    }
}
