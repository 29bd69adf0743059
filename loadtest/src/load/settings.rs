//! What a run is asked to do, and what of that makes no sense.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::{
    payload::PAYLOAD_BYTES_MIN,
    world::grid::{Exact, Grid},
};

/// Where zones lie and where events happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Unit zones side by side; every event touches exactly the same number of zones, each of another session.
    Grid,
    /// Rectangles of mixed sizes anywhere, events anywhere.
    Random,
    /// Unit zones side by side; events gather around a few places, most of them around the first.
    Hotspot,
    /// Unit zones side by side; events that exactly touch, or just miss, edges and corners.
    Border,
    /// Zones that move while events are published.
    Moving,
}

/// How fast events are published, all publishers together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many per second, above 0, at times that are fixed before the run.
    PerSecond(f64),
    /// As fast as they are taken: each publisher keeps a window of events under way.
    Max,
}

/// What is promised about each delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadClass {
    /// Everything arrives, in order.
    Reliable,
    /// The latest of each key arrives; each place in a publisher's pool is a key.
    State,
    /// At most once.
    Transient,
}

/// What a publisher waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadAck {
    /// The event is in the queues of all whom it concerns.
    Routed,
    /// All whom it concerns have processed it.
    Processed,
}

/// All settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSettings {
    /// Where zones lie and where events happen.
    pub scenario: Scenario,
    /// Zones in all, 1 to 4,000,000.
    pub zones: u32,
    /// Sessions that hold them, 1 to 100,000.
    pub sessions: u32,
    /// Publishers, 1 to 1,024, each with a connection of its own.
    pub publishers: u32,
    /// Sessions that an event reaches, in the mean.
    pub fan_out: f64,
    /// Length of the payloads in bytes, 24 to 1,000,000.
    pub payload_bytes: u32,
    /// How fast events are published.
    pub rate: Rate,
    /// How long is measured, in seconds, 0.1 to 86,400.
    pub seconds: f64,
    /// How long is published before that, in seconds, 0 to 3,600.
    pub warm_up_s: f64,
    /// What is promised about each delivery.
    pub class: LoadClass,
    /// What publishers wait for.
    pub ack: LoadAck,
    /// Worker threads of the broker; `None` leaves it to the broker.
    pub workers: Option<u32>,
    /// Moves of zones per second, in all sessions together; only for [`Scenario::Moving`], 1 to 1,000,000.
    pub moves_per_second: f64,
    /// Sessions that stop reading when the run begins; fewer than there are.
    pub frozen: u32,
    /// Unpaced: events that each publisher keeps under way, 1 to 1,000,000.
    pub window: u32,
    /// Milliseconds for which the broker may hold deliveries back, so that several go out together; at most 100.
    pub coalesce_ms: u32,
    /// Most bytes of a UDP payload at both ends, 1,200 to 65,527; more than 1,452 only counts where the path carries it.
    pub udp_payload_bytes_max: u16,
    /// Processes that host sessions, at most one per session; publishers have one more.
    pub generators: u32,
    /// From which the world follows.
    pub seed: u64,
}

impl Default for LoadSettings {
    /// A minute's worth of trying: a grid, unpaced, for five seconds.
    fn default() -> Self {
        Self {
            scenario: Scenario::Grid,
            zones: 256,
            sessions: 32,
            publishers: 4,
            fan_out: 4.0,
            payload_bytes: 64,
            rate: Rate::Max,
            seconds: 5.0,
            warm_up_s: 1.0,
            class: LoadClass::Reliable,
            ack: LoadAck::Routed,
            workers: None,
            moves_per_second: 1000.0,
            frozen: 0,
            window: 1024,
            coalesce_ms: 0,
            udp_payload_bytes_max: 1_452,
            generators: 1,
            seed: 1,
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("--{option} {value}: {problem}; {fix}")]
pub struct SettingError {
    option: &'static str,
    value: String,
    problem: String,
    fix: String,
}

fn error(
    option: &'static str,
    value: impl ToString,
    problem: impl Into<String>,
    fix: impl Into<String>,
) -> SettingError {
    SettingError { option, value: value.to_string(), problem: problem.into(), fix: fix.into() }
}

fn within<T: PartialOrd + fmt::Display>(option: &'static str, value: T, low: T, high: T) -> Result<(), SettingError> {
    // A NaN is within nothing.
    if value >= low && value <= high {
        return Ok(());
    }
    Err(error(option, value, "is out of range", format!("give {low} to {high}")))
}

impl LoadSettings {
    /// Checks every setting, alone and with the others.
    ///
    /// # Errors
    /// The first that makes no sense, with what would.
    pub fn check(&self) -> Result<(), SettingError> {
        within("zones", self.zones, 1, 4_000_000)?;
        within("sessions", self.sessions, 1, 100_000)?;
        within("publishers", self.publishers, 1, 1024)?;
        within("payload", self.payload_bytes, PAYLOAD_BYTES_MIN as u32, 1_000_000)?;
        within("seconds", self.seconds, 0.1, 86_400.0)?;
        within("warm-up", self.warm_up_s, 0.0, 3600.0)?;
        within("window", self.window, 1, 1_000_000)?;
        within("coalesce-ms", self.coalesce_ms, 0, 100)?;
        within("udp-payload", self.udp_payload_bytes_max, 1_200, 65_527)?;
        within("generators", self.generators, 1, self.sessions.min(256))?;
        if let Rate::PerSecond(rate) = self.rate {
            within("rate", rate, 0.1, 1e8)?;
        }
        if let Some(workers) = self.workers {
            within("workers", workers, 1, 256)?;
        }
        within("fan-out", self.fan_out, 0.001, 10_000.0)?;
        if self.fan_out > f64::from(self.sessions) {
            let problem = format!("no event can reach more than the {} sessions", self.sessions);
            return Err(error("fan-out", self.fan_out, problem, "give less, or more --sessions"));
        }
        if self.frozen >= self.sessions {
            let problem = format!("of {} sessions none would read", self.sessions);
            return Err(error("frozen", self.frozen, problem, "give fewer"));
        }
        self.check_class()?;
        if self.scenario == Scenario::Grid {
            self.check_grid()?;
        }
        Ok(())
    }

    fn check_class(&self) -> Result<(), SettingError> {
        if self.ack == LoadAck::Processed && self.class != LoadClass::Reliable {
            return Err(error("ack", "processed", "is for reliable events only", "leave it out, or --class reliable"));
        }
        if self.scenario == Scenario::Moving {
            within("moves-per-second", self.moves_per_second, 1.0, 1e6)?;
            if self.zones < self.sessions {
                let problem = format!("some of the {} sessions would have nothing to move", self.sessions);
                return Err(error("zones", self.zones, problem, "give at least as many as --sessions"));
            }
        }
        Ok(())
    }

    /// A grid promises its fan-out exactly, so it must be one that has a circle.
    fn check_grid(&self) -> Result<(), SettingError> {
        let Some(exact) = Exact::of(self.fan_out) else {
            let fix = "give 1, 4, 9, 16, 25 or 36, or another --scenario";
            return Err(error("fan-out", self.fan_out, "a grid has no circle for it", fix));
        };
        let grid = Grid::filled(self.zones);
        if grid.columns.min(grid.rows) < exact.span + 1 {
            let problem =
                format!("makes a grid of {} x {}, too narrow for --fan-out {}", grid.columns, grid.rows, self.fan_out);
            return Err(error("zones", self.zones, problem, "give a square such as 256 or 10000"));
        }
        let (across, down) = grid.tile(self.sessions);
        if across.min(down) < exact.span {
            let least = exact.span * exact.span;
            let problem =
                format!("are too few for each zone of an event with --fan-out {} to have its own", self.fan_out);
            return Err(error(
                "sessions",
                self.sessions,
                problem,
                format!("give a product such as {least} or {}", least * 2),
            ));
        }
        Ok(())
    }
}

impl Scenario {
    /// Its name, as `--scenario` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grid => "grid",
            Self::Random => "random",
            Self::Hotspot => "hotspot",
            Self::Border => "border",
            Self::Moving => "moving",
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => rate.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected events per second, such as 25000, or max")]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(rate) if f64::is_finite(rate) && rate > 0.0 => Ok(Self::PerSecond(rate)),
            _ => Err(RateError),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PerSecond(rate) => serializer.serialize_f64(*rate),
            Self::Max => serializer.serialize_str("max"),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(rate) => Ok(Self::PerSecond(rate)),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense_and_survive_json() {
        let settings = LoadSettings::default();
        assert_eq!(settings.check(), Ok(()));
        for rate in [Rate::Max, Rate::PerSecond(12.5), Rate::PerSecond(25_000.0)] {
            let settings = LoadSettings { rate, ..settings.clone() };
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<LoadSettings>(&text).unwrap(), settings, "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_with_a_way_out() {
        let good = LoadSettings::default;
        let moving = || LoadSettings { scenario: Scenario::Moving, ..good() };
        for (settings, words) in [
            (LoadSettings { zones: 0, ..good() }, "--zones 0"),
            (LoadSettings { zones: 257, ..good() }, "--zones 257: makes a grid of 257 x 1"),
            (LoadSettings { payload_bytes: 23, ..good() }, "give 24 to"),
            (LoadSettings { fan_out: 5.0, ..good() }, "give 1, 4, 9"),
            (LoadSettings { fan_out: f64::NAN, ..good() }, "--fan-out NaN"),
            (LoadSettings { fan_out: 36.0, ..good() }, "more than the 32 sessions"),
            (LoadSettings { fan_out: 16.0, sessions: 20, ..good() }, ""),
            (LoadSettings { fan_out: 25.0, ..good() }, "--sessions 32: are too few"),
            (LoadSettings { frozen: 32, ..good() }, "--frozen 32"),
            (LoadSettings { generators: 33, ..good() }, "--generators 33"),
            (LoadSettings { rate: Rate::PerSecond(0.0), ..good() }, "--rate 0"),
            (LoadSettings { ack: LoadAck::Processed, class: LoadClass::State, ..good() }, "--class reliable"),
            (LoadSettings { moves_per_second: 0.0, ..moving() }, "--moves-per-second 0"),
            (LoadSettings { zones: 31, ..moving() }, "nothing to move"),
        ] {
            match settings.check() {
                Ok(()) => assert_eq!(words, "", "{settings:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!words.is_empty() && text.contains(words), "{text} has no {words:?}");
                }
            }
        }
    }
}
