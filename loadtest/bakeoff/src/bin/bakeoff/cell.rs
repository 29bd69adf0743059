//! The worlds that are played: each a name and the settings of the harness.

use anyhow::{Context as _, bail, ensure};
use zonecast_loadtest::load::{LoadSettings, Rate, Scenario};

use crate::peer::Peer;

/// Zones that each session holds.
const ZONES_PER_SESSION: u32 = 8;
const SESSIONS: u32 = 32;
const SESSIONS_MANY: u32 = 1000;

/// What everybody plays unless somebody says otherwise: every figure of the targets, and each variable varied once.
const USUAL: [&str; 7] =
    ["max-4x64", "max-4x256", "max-16x64", "max-16x256", "100k-4x64", "20k-4x64", "max-4x64-1000s"];

/// What zonecast plays alone, compared with itself.
const ZONECAST: [&str; 7] =
    ["max-4x1024", "still-max", "moving-max", "still-100k", "moving-100k", "frozen-max", "frozen-100k"];

/// A world and a rate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) settings: LoadSettings,
    /// True where peers do not take part.
    pub(crate) zonecast_alone: bool,
}

impl Cell {
    /// The cells of these names, each once, in the order named.
    pub(crate) fn named(names: &[String], seconds: f64, warm_up_s: f64) -> anyhow::Result<Vec<Self>> {
        let mut cells: Vec<Self> = Vec::new();
        for name in names {
            let expanded: Vec<String> = match name.as_str() {
                "usual" => USUAL.map(str::to_owned).to_vec(),
                "zonecast" => ZONECAST.map(str::to_owned).to_vec(),
                "all" => all(),
                other => vec![other.to_owned()],
            };
            for name in expanded {
                if cells.iter().any(|cell| cell.name == name) {
                    continue;
                }
                let mut cell = Self::parse(&name).with_context(|| format!("there is no cell `{name}`"))?;
                cell.settings.seconds = seconds;
                cell.settings.warm_up_s = warm_up_s;
                cell.settings.check().with_context(|| format!("cell `{name}`"))?;
                cells.push(cell);
            }
        }
        ensure!(!cells.is_empty(), "no cells are named");
        Ok(cells)
    }

    /// Whether this peer plays it.
    pub(crate) fn is_for(&self, peer: Peer) -> bool {
        peer == Peer::Zonecast || !self.zonecast_alone
    }

    /// What it is, in words.
    pub(crate) fn words(&self) -> String {
        let settings = &self.settings;
        let rate = match settings.rate {
            Rate::Max => "unpaced".to_owned(),
            Rate::PerSecond(rate) => format!("{:.0} deliveries/s", rate * settings.fan_out),
        };
        let mut words = format!(
            "{rate}, {} hits per event, {} B, {} zones, {} sessions",
            settings.fan_out, settings.payload_bytes, settings.zones, settings.sessions
        );
        if settings.scenario == Scenario::Moving {
            words.push_str(&format!(", {:.0} zone moves/s", settings.moves_per_second));
        }
        if settings.frozen > 0 {
            words.push_str(&format!(", {} of them frozen", settings.frozen));
        }
        words
    }

    fn parse(name: &str) -> anyhow::Result<Self> {
        let (first, rest) = name.split_once('-').context("a cell is RATE-HITSxBYTES")?;
        match first {
            "still" => Ok(Self::moving(name, rest, 1.0)?),
            "moving" => Ok(Self::moving(name, rest, 10_000.0)?),
            "frozen" => {
                let settings = LoadSettings { frozen: 1, ..fan_out(rest, 4.0, 64, SESSIONS)? };
                Ok(Self { name: name.to_owned(), settings, zonecast_alone: true })
            }
            rate => {
                let (world, sessions) = match rest.strip_suffix("-1000s") {
                    Some(world) => (world, SESSIONS_MANY),
                    None => (rest, SESSIONS),
                };
                let (hits, bytes) = world.split_once('x').context("a cell is RATE-HITSxBYTES")?;
                let (hits, bytes): (f64, u32) = (hits.parse()?, bytes.parse()?);
                let settings = fan_out(rate, hits, bytes, sessions)?;
                // Alone because the targets ask for it of zonecast only.
                Ok(Self { name: name.to_owned(), settings, zonecast_alone: name == "max-4x1024" })
            }
        }
    }

    /// 10,000 zones that move; at one move a second they are as good as still, and everything else is the same.
    fn moving(name: &str, rate: &str, moves_per_second: f64) -> anyhow::Result<Self> {
        let settings = LoadSettings {
            scenario: Scenario::Moving,
            zones: 10_000,
            moves_per_second,
            ..fan_out(rate, 4.0, 64, SESSIONS)?
        };
        Ok(Self { name: name.to_owned(), settings, zonecast_alone: true })
    }
}

fn fan_out(rate: &str, hits: f64, payload_bytes: u32, sessions: u32) -> anyhow::Result<LoadSettings> {
    let rate = match rate {
        "max" => Rate::Max,
        "20k" => Rate::PerSecond(20_000.0 / hits),
        "100k" => Rate::PerSecond(100_000.0 / hits),
        other => bail!("`{other}` is no rate: give max, 20k or 100k, in deliveries per second"),
    };
    let zones = ZONES_PER_SESSION * sessions;
    Ok(LoadSettings { fan_out: hits, payload_bytes, rate, sessions, zones, ..LoadSettings::default() })
}

/// Every rate, number of hits, length and number of sessions.
fn all() -> Vec<String> {
    let mut names = Vec::new();
    for sessions in ["", "-1000s"] {
        for rate in ["max", "100k", "20k"] {
            for world in ["4x64", "4x256", "16x64", "16x256"] {
                names.push(format!("{rate}-{world}{sessions}"));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> anyhow::Result<Vec<Cell>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Cell::named(&names, 2.0, 0.5)
    }

    #[test]
    fn every_cell_that_has_a_name_makes_sense_to_the_harness() {
        assert_eq!(named(&["usual", "zonecast"]).unwrap().len(), USUAL.len() + ZONECAST.len());
        let all = named(&["all"]).unwrap();
        assert_eq!(all.len(), 24);
        assert!(named(&["usual"]).unwrap().iter().all(|cell| all.contains(cell)), "`all` has everything");
        assert_eq!(named(&["usual", "all", "max-4x64"]).unwrap().len(), 24, "each once");
    }

    #[test]
    fn a_name_says_what_is_played() {
        let cell = &named(&["20k-16x256-1000s"]).unwrap()[0];
        assert_eq!(cell.words(), "20000 deliveries/s, 16 hits per event, 256 B, 8000 zones, 1000 sessions");
        assert_eq!(cell.settings.rate, Rate::PerSecond(1250.0));
        let usual = &named(&["max-4x64"]).unwrap()[0];
        assert_eq!((usual.settings.zones, usual.settings.sessions), (256, 32));
        let frozen = &named(&["frozen-max"]).unwrap()[0];
        assert!(frozen.zonecast_alone && !frozen.is_for(Peer::Tcp) && frozen.is_for(Peer::Zonecast));
    }

    #[test]
    fn what_is_no_cell_is_refused() {
        for name in ["", "max", "max-4", "max-axb", "9k-4x64", "frozen-4x64", "max-5x64"] {
            assert!(named(&[name]).is_err(), "{name}");
        }
    }
}
