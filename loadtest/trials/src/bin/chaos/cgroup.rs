//! A memory limit for one process, by a control group, where this machine lets us make one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tokio::time::sleep;

/// Where the groups are, of either version.
const V2: &str = "sys/fs/cgroup";
const V1: &str = "sys/fs/cgroup/memory";

/// A group with a limit; removed when dropped, where nothing is in it any more.
pub(crate) struct MemoryGroup {
    directory: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryGroup {
    /// Makes a group with this limit. `root` is the file system in which the groups are.
    ///
    /// # Errors
    /// The machine does not permit it; the error says why.
    pub(crate) fn new(root: &Path, name: &str, bytes_max: u64) -> anyhow::Result<Self> {
        let version = if root.join(V1).join("memory.limit_in_bytes").exists() { Version::One } else { Version::Two };
        let directory = root.join(if version == Version::One { V1 } else { V2 }).join(name);
        fs::create_dir(&directory).with_context(|| format!("no control group {}", directory.display()))?;
        let made = Self { directory, version };
        let path = made.directory.join(if version == Version::One { "memory.limit_in_bytes" } else { "memory.max" });
        fs::write(&path, bytes_max.to_string()).with_context(|| format!("no limit in {}", path.display()))?;
        Ok(made)
    }

    /// Puts a process into it. What it has used before does not count.
    pub(crate) fn admit(&self, process: u32) -> io::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), process.to_string())
    }

    /// The most memory that was in use.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let file = if self.version == Version::One { "memory.max_usage_in_bytes" } else { "memory.peak" };
        fs::read_to_string(self.directory.join(file)).ok()?.trim().parse().ok()
    }

    /// How often the limit cost a process its life.
    pub(crate) fn kills(&self) -> u64 {
        let file = if self.version == Version::One { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Fails while a process is in it; the guard tries again when all are gone.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Removes the groups whose names satisfy this, once they are empty; waits a little for that.
pub(crate) async fn remove(is_meant: impl Fn(&str) -> bool) {
    for groups in [V1, V2] {
        let Ok(entries) = fs::read_dir(Path::new("/").join(groups)) else { continue };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(&is_meant) {
                continue;
            }
            for _ in 0..40 {
                if fs::remove_dir(entry.path()).is_ok() {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
