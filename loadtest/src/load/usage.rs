//! What processes and the machine have used, as the system tells.

use std::{fs, io, iter::Sum, ops::Add};

/// What one process, or several together, have used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// CPU seconds since they began, of user and system together.
    pub cpu_s: f64,
    /// Bytes of memory in use (resident set).
    pub rss_bytes: u64,
}

impl Usage {
    /// Of a process that runs.
    ///
    /// # Errors
    /// There is no such process, or this is no Linux.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (ticks, pages) =
            parse_stat(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat: {stat:?}")))?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Self { cpu_s: ticks as f64 / per_second as f64, rss_bytes: pages * rustix::param::page_size() as u64 })
    }

    /// Of several processes together.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_all(pids: &[u32]) -> io::Result<Self> {
        pids.iter().map(|pid| Self::of(*pid)).sum()
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu_s: self.cpu_s + other.cpu_s, rss_bytes: self.rss_bytes + other.rss_bytes }
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), Self::add)
    }
}

/// Ticks of CPU time and pages of memory, out of `/proc/PID/stat`.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    // The name of the process may hold anything, so the fields are counted from behind its closing parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?, field(24)?))
}

/// CPU seconds of the whole machine since it started: used, and in all.
///
/// # Errors
/// This is no Linux.
pub fn machine_cpu_s() -> io::Result<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let (idle, all) = parse_machine(&stat).ok_or_else(|| io::Error::other("/proc/stat has no line of all CPUs"))?;
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok(((all - idle) as f64 / per_second, all as f64 / per_second))
}

/// Ticks idle, and in all.
fn parse_machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // User, nice, system, idle, waiting, interrupts, soft interrupts, stolen; guests are in user and nice already.
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|ticks| ticks.parse().ok()).collect();
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_name_does_not_move_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 10 0 0 0 150 25 0 0 20 0 3 0 99 1000000 42 18446744073709551615";
        assert_eq!(parse_stat(stat), Some((175, 42)));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn the_machine_is_idle_while_it_waits() {
        assert_eq!(parse_machine("cpu  10 1 5 80 4 0 0 0 7 0\ncpu0 1 2 3\n"), Some((84, 100)));
        assert_eq!(parse_machine("cpu0 1 2 3\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        let one = Usage::of(me).unwrap();
        assert!(one.rss_bytes > 1 << 20);
        assert!(Usage::of_all(&[me, me]).unwrap().rss_bytes >= 2 * (1 << 20));
        assert!(Usage::of(0).is_err());
        let (used, all) = machine_cpu_s().unwrap();
        assert!(used > 0.0 && all >= used);
    }
}
