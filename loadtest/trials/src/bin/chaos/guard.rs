//! The guard around a run: it lays the field, starts the stage, and removes everything, whatever becomes of the stage.
//!
//! The stage, its brokers and its peers are one process group, which the guard kills in the end. Should the guard itself
//! be killed, the stage dies with it, and the next run removes the namespaces and control groups that stay behind.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, geteuid, getpid, kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::{
    cgroup,
    field::{self, Field},
    options::Options,
    stage::Assignment,
    tool,
};

/// Begins the names of all that a run makes, before its number.
const NAME: &str = "zchaos";
/// How much longer a run may take than its acts: for starting, healing and judging.
const SPARE: Duration = Duration::from_secs(300);

/// Plays a run.
///
/// # Errors
/// It cannot be prepared.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch_over(options))
}

async fn watch_over(options: Options) -> anyhow::Result<ExitCode> {
    if !options.zonecast.is_file() && options.zonecast.components().count() > 1 {
        bail!("{} is no file; `cargo xtask chaos` builds it", options.zonecast.display());
    }
    if !tool::is_there("setpriv") {
        bail!("setpriv is missing (Debian's package util-linux); without it brokers could outlive the run");
    }
    // From here on a signal must not leave anything behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    remove_stale().await;
    let prefix = format!("{NAME}{}", getpid().as_raw_nonzero());
    let directory = Directory::new(&options, &prefix)?;
    let (field, not_run) = lay_field(&options, &prefix).await;
    let at_most = Duration::from_secs(options.seconds) + SPARE;
    let assignment = Assignment {
        options,
        field,
        directory: directory.path.clone(),
        prefix: prefix.clone(),
        outer_root: Path::new("/proc").join(getpid().as_raw_nonzero().to_string()).join("root"),
        not_run,
    };
    let ending = match start(&assignment) {
        Ok((mut stage, group)) => {
            let ending = tokio::select! {
                status = stage.wait() => status.map_err(Into::into).map(|status| status.code()),
                _ = interrupt.recv() => Ok(Some(130)),
                _ = terminate.recv() => Ok(Some(143)),
                () = sleep(at_most) => Err(anyhow::anyhow!("the stage does not come to an end")),
            };
            // All that the stage started; what has ended already is not there any more.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = stage.wait().await;
            ending
        }
        Err(error) => Err(error),
    };
    if let Field::Namespaces { prefix } = &assignment.field {
        field::remove(prefix).await;
    }
    cgroup::remove(|name| name.starts_with(&prefix)).await;
    drop(directory);
    let code = ending?.context("the stage was killed")?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn start(assignment: &Assignment) -> anyhow::Result<(Child, Pid)> {
    let mut words: Vec<OsString> = assignment.field.at_brokers().into_iter().map(Into::into).collect();
    words.push(std::env::current_exe()?.into());
    words.push("stage".into());
    words.push(serde_json::to_string(assignment)?.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    let stage = command.spawn().context("the stage cannot be started")?;
    let group = stage.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("a process without a number")?;
    Ok((stage, group))
}

/// Namespaces where this machine has them, loopback where not; and what cannot be run for it.
async fn lay_field(options: &Options, prefix: &str) -> (Field, Vec<String>) {
    let mut lacking = Vec::new();
    if options.loopback {
        lacking.push("--loopback is given".to_owned());
    } else if !geteuid().is_root() {
        lacking.push("this is not root".to_owned());
    } else {
        let tools = [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")];
        let missing = tools.iter().filter(|(tool, _)| !tool::is_there(tool));
        lacking.extend(missing.map(|(tool, package)| format!("{tool} is missing (Debian's package {package})")));
    }
    if lacking.is_empty() {
        match field::lay(prefix).await {
            Ok(()) => return (Field::Namespaces { prefix: prefix.to_owned() }, Vec::new()),
            Err(error) => lacking.push(format!("{error:#}")),
        }
    }
    let lacking = lacking.join("; ");
    let not_run = format!("network faults (loss, partitions, narrow links): all goes over loopback, because {lacking}");
    warn(&not_run);
    (Field::Loopback, vec![not_run])
}

#[expect(clippy::print_stderr, reason = "standard output is for the figures")]
fn warn(not_run: &str) {
    eprintln!("\n**** NOT RUN: {not_run} ****\n");
}

async fn remove_stale() {
    let is_stale = |name: &str| {
        let number = name.strip_prefix(NAME).map(|rest| rest.split('-').next().unwrap_or(rest));
        number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|guard| !is_alive(guard))
    };
    field::remove_stale(is_stale).await;
    cgroup::remove(is_stale).await;
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_stale) {
            // Another user's is not ours to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// Where a run keeps its files.
struct Directory {
    path: PathBuf,
    is_kept: bool,
}

impl Directory {
    fn new(options: &Options, prefix: &str) -> anyhow::Result<Self> {
        let path = options.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(prefix));
        fs::create_dir(&path).with_context(|| format!("the directory {} cannot be made", path.display()))?;
        Ok(Self { path: fs::canonicalize(&path)?, is_kept: options.keep.is_some() })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed is swept by the next run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
