//! Arguments of `zonecast replay`.

use std::{num::NonZeroUsize, path::PathBuf, str::FromStr};

use clap::Args;
use thiserror::Error;
use zonecast_protocol::WorldName;

use super::ConnectArgs;

/// Send recorded events through a broker, and report which zones got them
///
/// Without --connect (or ZONECAST_CONNECT) it runs a broker of its own meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast replay --zones zones.csv --events events.csv --json
    zonecast replay --zones zones.csv --events events.csv --speed 10 --workers 2 --out deliveries.csv
    zonecast replay --zones zones.csv --events events.csv --world mars --connect broker.internal:4433 --ca certs/ca.pem")]
pub(crate) struct ReplayArgs {
    /// The file of zones.
    #[arg(long, value_name = "FILE")]
    pub(crate) zones: PathBuf,
    /// The file of events.
    #[arg(long, value_name = "FILE")]
    pub(crate) events: PathBuf,
    /// The world of zones and events.
    #[arg(long, value_name = "WORLD", default_value = "earth")]
    pub(crate) world: WorldName,
    /// How fast the recorded time passes: 2 is twice as fast as the clock, max does not wait at all.
    #[arg(long, value_name = "X|max", default_value = "max")]
    pub(crate) speed: Speed,
    /// Worker threads of the broker that it runs itself. Default: one per core.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// A file to write the deliveries to.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The broker; none named: one of its own.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// How fast a world's time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as the clock; above 0 and finite.
    Times(f64),
    /// Without waiting.
    Max,
}

/// A text that is no speed.
#[derive(Debug, Error)]
#[error("expected a number above 0 and up to 1e6, or max")]
pub(crate) struct SpeedError;

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            // A NaN compares as neither.
            Ok(times) if times > 0.0 && times <= 1e6 => Ok(Self::Times(times)),
            _ => Err(SpeedError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_above_zero_or_max() {
        assert_eq!("max".parse::<Speed>().unwrap(), Speed::Max);
        assert_eq!("0.5".parse::<Speed>().unwrap(), Speed::Times(0.5));
        for bad in ["", "0", "-1", "nan", "inf", "1e7", "fast"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad:?}");
        }
    }
}
