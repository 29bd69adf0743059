//! Load tests, and recorded worlds played through a broker; what arrives is held against brute force.
//!
//! [`load`] is the load test: worlds from a seed, events at times fixed before the run, broker and clients in processes
//! of their own. The rest is the replay of recorded worlds:
//!
//! [`WorldFile`] reads the zones, [`EventFile`] the events, row by row. [`replay()`] connects one client per session of
//! the zones, publishes every event, and returns a [`Report`]. What should have arrived is computed by [`Oracle`],
//! which compares every event with every zone and shares no code with the broker's index; [`Ledger`] compares the two
//! as deliveries come in, so that memory is bounded by what is under way.
//!
//! Deliberately absent: starting a broker. That is for the caller, who may have one.
//!
//! Start at [`replay()`] or [`load::conduct()`].

mod input;
mod ledger;
pub mod load;
mod oracle;
mod replay;
mod report;
mod sorted_lines;

pub use input::{EventFile, EventRow, InputError, WorldFile, ZoneRow};
pub use ledger::{Ledger, Verdict};
pub use oracle::Oracle;
pub use replay::{Pace, Progress, ReplayError, ReplayOptions, replay};
pub use report::{LatencyReport, Report};
pub use sorted_lines::SortedLines;

/// The zones of the bundled sample: 286 rectangles of 175 countries.
pub const SAMPLE_ZONES: &str = include_str!("../samples/quakes/zones.csv");

/// The events of the bundled sample: 1,707 earthquakes of one week.
pub const SAMPLE_EVENTS: &str = include_str!("../samples/quakes/events.csv");
