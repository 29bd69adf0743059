//! What a run is asked to do.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// The shortest run that means anything.
const SECONDS_MIN: u64 = 10;
/// A run that lasts longer is rather two.
const SECONDS_MAX: u64 = 6 * 3_600;
/// From so many seconds on, acts are played in full.
const IN_FULL_FROM: u64 = 90;

/// The mixed act lasts so long at least.
const MIXED_SECONDS_MIN: u64 = 5;
/// The acts in their order. Those in one group are played at the same time: they measure nothing that they could disturb.
const PROGRAMME: [&[Act]; 5] = [
    &[Act::Mixed],
    &[Act::Restarts],
    &[Act::Storm],
    &[Act::Frozen],
    &[Act::Certificates, Act::Descriptors, Act::Memory],
];

/// The options of a run.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct Options {
    /// How long brokers and peers are killed, stopped and cut off, of all acts together. Starting, healing and judging
    /// come on top: some 20 s, and up to a minute where something is stuck
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=SECONDS_MAX))]
    pub(crate) seconds: u64,

    /// Print the figures as one JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,

    /// Draws what is left to chance. The same seed makes the same plan, not the same run: these are real processes
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Play only this act; may be given several times
    #[arg(long, value_name = "ACT", value_enum)]
    only: Vec<Act>,

    /// Do without network namespaces, and so without anything that befalls packets
    #[arg(long)]
    pub(crate) loopback: bool,

    /// Keep logs and journals in this directory, which must not exist
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) keep: Option<PathBuf>,

    /// The zonecast binary; `cargo xtask chaos` builds it and names it
    #[arg(long, value_name = "FILE", default_value = "zonecast")]
    pub(crate) zonecast: PathBuf,
}

/// A part of a run, with brokers and peers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Two brokers and 30 clients, and everything that can go wrong with them, at random; takes what time is left
    Mixed,
    /// One broker is killed and started again while clients write: how soon do they notice?
    Restarts,
    /// 500 clients, whose one broker is killed and started again, and stopped for longer than they wait
    Storm,
    /// One of 32 readers is stopped: what does it cost the others, its publishers, and the broker's memory?
    Frozen,
    /// Certificates are rewritten under load: sessions stay, new connections see the new one
    Certificates,
    /// A broker has no file descriptor left, because its admin HTTP is crowded: do sessions go on?
    Descriptors,
    /// A broker with a memory limit, and slow readers under a flood: it must not be killed for it
    Memory,
}

impl Act {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Restarts => "restarts",
            Self::Storm => "storm",
            Self::Frozen => "frozen",
            Self::Certificates => "certificates",
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
        }
    }

    /// How long it takes, of the time of a run in full and of a short one.
    fn seconds(self) -> [u64; 2] {
        match self {
            Self::Mixed => [0, 0],
            Self::Restarts => [12, 2],
            Self::Storm => [20, 2],
            Self::Frozen => [12, 4],
            Self::Certificates => [4, 1],
            Self::Descriptors => [5, 1],
            Self::Memory => [8, 2],
        }
    }
}

impl Options {
    /// Whether acts are played in full.
    pub(crate) fn in_full(&self) -> bool {
        self.seconds >= IN_FULL_FROM
    }

    /// Whether nothing is left out.
    pub(crate) fn is_whole(&self) -> bool {
        self.in_full() && self.only.is_empty()
    }

    fn is_wanted(&self, act: Act) -> bool {
        self.only.is_empty() || self.only.contains(&act)
    }

    /// What is to be played, one after the other; each of the groups at the same time.
    pub(crate) fn programme(&self) -> Vec<Vec<Act>> {
        let wanted = |group: &[Act]| group.iter().copied().filter(|act| self.is_wanted(*act)).collect::<Vec<_>>();
        PROGRAMME.iter().map(|group| wanted(group)).filter(|group| !group.is_empty()).collect()
    }

    /// How long the mixed act lasts: what the others leave, and never nothing.
    pub(crate) fn mixed_time(&self) -> Duration {
        let seconds = |act: &Act| act.seconds()[usize::from(!self.in_full())];
        let others: u64 = self.programme().iter().filter_map(|group| group.iter().map(seconds).max()).sum();
        Duration::from_secs(self.seconds.saturating_sub(others).max(MIXED_SECONDS_MIN))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        Line::parse_from([&["chaos"], line].concat()).options
    }

    #[test]
    fn every_act_is_in_the_programme_once() {
        let mut played = options(&[]).programme().concat();
        assert_eq!(played.len(), Act::value_variants().len());
        played.dedup();
        assert_eq!(played.len(), Act::value_variants().len());
        assert_eq!(options(&["--only", "storm", "--only", "mixed"]).programme(), [[Act::Mixed], [Act::Storm]]);
    }

    #[test]
    fn the_mixed_act_has_what_is_left() {
        assert_eq!(options(&["--seconds", "600"]).mixed_time(), Duration::from_secs(600 - 12 - 20 - 12 - 8));
        assert_eq!(options(&["--seconds", "10"]).mixed_time(), Duration::from_secs(MIXED_SECONDS_MIN));
        assert_eq!(options(&["--seconds", "30", "--only", "mixed"]).mixed_time(), Duration::from_secs(30));
    }
}
