//! What the conductor and the generators say to each other: one JSON object a line, on the generator's standard input
//! and output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    LoadSettings,
    books::Balance,
    tally::{HistogramRecord, TallyRecord, Window},
};

/// What a generator hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All publishers.
    Publishers,
    /// The sessions from the first to before the second number.
    Sessions(u32, u32),
}

/// What the conductor tells a generator, in this order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order<T> {
    /// Connect.
    Setup {
        settings: Box<LoadSettings>,
        role: Role,
        target: T,
        run: u32,
        /// Where publishers leave when each event was sent and acknowledged, and sessions find it; where zones move.
        times: Option<PathBuf>,
    },
    /// Publish, or receive.
    Start { start_ns: u64, window: Window },
    /// Everything was published, so much by each publisher: wait for the rest and say what came.
    Drain { published: Vec<u64> },
    /// Say goodbye.
    End,
}

/// What a generator tells the conductor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It is set up.
    Ready,
    /// So much was published or received, since the start.
    Progress(u64),
    /// All is published and acknowledged.
    Published(Box<Published>),
    /// All has arrived, or nothing more comes.
    Received(Box<Received>),
    /// It cannot go on.
    Failed(String),
}

/// What the publishers have to say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Published {
    /// Events by each publisher, from the start.
    pub(super) by_publisher: Vec<u64>,
    /// Events within the window.
    pub(super) within: u64,
    /// Events whose acknowledgement named another number of sessions than brute force.
    pub(super) miscounted_acks: u64,
    /// Events of which nobody has said what became of them.
    pub(super) unanswered: u64,
    /// Microseconds by which this process, not the broker, was behind the schedule, by event within the window.
    pub(super) late_us: HistogramRecord,
    /// Seconds that publishers waited for room, added up, within the window.
    pub(super) held_back_s: f64,
}

/// What the sessions of one generator have to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Received {
    /// The books, all together.
    pub(super) balance: Balance,
    /// When what arrived.
    pub(super) tally: TallyRecord,
    /// Moves of zones within the window.
    pub(super) moves: u64,
    /// Sessions that ended by an error, with the first of these.
    pub(super) broken: Option<(u32, String)>,
}
