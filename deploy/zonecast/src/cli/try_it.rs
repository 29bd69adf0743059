//! Arguments of `zonecast sub` and `zonecast pub`.

use std::str::FromStr;

use clap::{ArgGroup, Args, ValueEnum};
use thiserror::Error;
use zonecast_protocol::{ClientId, DeliveryClass, Kind, QueueGroup, Topic, TopicPattern, WorldName, Zone};

use super::ConnectArgs;

/// Subscribe, and print what is delivered
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("interest").args(["zones", "topics"]).required(true).multiple(true),
    after_help = "\
Examples:
  Two zones of a world (min x, min y, max x, max y; edges count):
    zonecast sub --ca certs/ca.pem --zone earth:0,0,100,100 --zone earth:-50,-50,-1,-1

  Only explosions, and only the first ten, as JSON:
    zonecast sub --ca certs/ca.pem --zone earth:0,0,100,100 --kind explosion --count 10 --json

  Topics; * is one token, > the rest. In a queue group each event goes to one member:
    zonecast sub --ca certs/ca.pem --topic 'users.>' --topic 'auth.*.failed'
    zonecast sub --ca certs/ca.pem --topic 'jobs.>' --queue workers"
)]
pub(crate) struct SubArgs {
    /// A zone: its world and its corners; repeatable.
    #[arg(long = "zone", value_name = "WORLD:MINX,MINY,MAXX,MAXY", allow_hyphen_values = true)]
    pub(crate) zones: Vec<WorldZone>,
    /// A topic or a pattern of topics; repeatable.
    #[arg(long = "topic", value_name = "PATTERN")]
    pub(crate) topics: Vec<TopicPattern>,
    /// Share the topics' events with the other members of this group: each goes to one of them.
    #[arg(long, value_name = "GROUP", requires = "topics")]
    pub(crate) queue: Option<QueueGroup>,
    /// Only events of this kind in the zones; repeatable.
    #[arg(long = "kind", value_name = "KIND", requires = "zones")]
    pub(crate) kinds: Vec<Kind>,
    /// End after so many deliveries.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
    /// This client's name; whoever connects with it later takes its place. Default: the first that --cert names, else
    /// one made up for the run.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<ClientId>,
    /// The broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Publish one event
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("target").args(["at", "topic"]).required(true),
    after_help = "\
Examples:
  Something happens at a place, felt within a radius:
    zonecast pub --ca certs/ca.pem --world earth --at 50,50 --radius 5 --kind explosion 'boom'
    zonecast pub --ca certs/ca.pem --world earth --at -1,2 --radius 0

  The latest state of a thing, by key:
    zonecast pub --ca certs/ca.pem --world earth --at 3,4 --radius 1 --class state --state-key door-7 'open'

  To a topic, from standard input:
    echo '{\"id\": 7}' | zonecast pub --ca certs/ca.pem --topic users.created -"
)]
pub(crate) struct PubArgs {
    /// The world in which it happens.
    #[arg(long, value_name = "WORLD", requires = "at")]
    pub(crate) world: Option<WorldName>,
    /// The place.
    #[arg(long, value_name = "X,Y", requires_all = ["world", "radius"], allow_hyphen_values = true)]
    pub(crate) at: Option<Point>,
    /// How far it is felt, in the world's unit of length; 0 is at the place only.
    #[arg(long, value_name = "R", requires = "at", value_parser = radius)]
    pub(crate) radius: Option<f64>,
    /// The kind of event.
    #[arg(long, value_name = "KIND", requires = "at")]
    pub(crate) kind: Option<Kind>,
    /// The topic, instead of a place.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<Topic>,
    /// What is promised: reliable arrives in order, of state only the latest per key counts, transient may be dropped.
    #[arg(long, value_enum, default_value_t = ClassArg::Reliable)]
    pub(crate) class: ClassArg,
    /// The key of a state event.
    #[arg(long, value_name = "KEY", required_if_eq("class", "state"), value_parser = state_key)]
    pub(crate) state_key: Option<String>,
    /// What the event carries; - reads it from standard input. Default: nothing.
    #[arg(value_name = "PAYLOAD")]
    pub(crate) payload: Option<String>,
    /// This client's name; whoever connects with it later takes its place. Default: the first that --cert names, else
    /// one made up for the run.
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<ClientId>,
    /// The broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

impl PubArgs {
    /// The key of a state event; `None` for the other classes.
    ///
    /// # Errors
    /// There is a key though the class has none.
    pub(crate) fn state_key(&self) -> anyhow::Result<Option<&str>> {
        let key = self.state_key.as_deref();
        if key.is_some() && self.class != ClassArg::State {
            anyhow::bail!("--state-key is for --class state only; with another class it would say nothing");
        }
        Ok(key)
    }
}

/// What is promised of an event's delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassArg {
    /// In order, and a slow receiver holds its publishers back.
    Reliable,
    /// Only the latest per key counts.
    State,
    /// At most once.
    Transient,
}

impl From<ClassArg> for DeliveryClass {
    fn from(class: ClassArg) -> Self {
        match class {
            ClassArg::Reliable => Self::Reliable,
            ClassArg::State => Self::State,
            ClassArg::Transient => Self::Transient,
        }
    }
}

/// A zone and its world.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorldZone {
    /// The world.
    pub(crate) world: WorldName,
    /// The zone.
    pub(crate) zone: Zone,
}

/// A place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// West to east.
    pub(crate) x: f64,
    /// South to north.
    pub(crate) y: f64,
}

/// A text that is no place or zone.
#[derive(Debug, Error)]
pub(crate) enum PlaceError {
    /// The world or its colon is missing.
    #[error("expected WORLD:MINX,MINY,MAXX,MAXY, such as earth:0,0,100,100")]
    NotAZone,
    /// Not two numbers.
    #[error("expected X,Y, such as 50,-3.5")]
    NotAPoint,
    /// The world's name is not one.
    #[error(transparent)]
    World(#[from] zonecast_protocol::NameError),
    /// The corners are not those of a zone.
    #[error(transparent)]
    Geometry(#[from] zonecast_protocol::GeometryError),
}

fn numbers<const N: usize>(text: &str) -> Option<[f64; N]> {
    let all: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    all?.try_into().ok()
}

impl FromStr for WorldZone {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (world, corners) = text.split_once(':').ok_or(PlaceError::NotAZone)?;
        let world = world.parse()?;
        let [min_x, min_y, max_x, max_y] = numbers(corners).ok_or(PlaceError::NotAZone)?;
        Ok(Self { world, zone: Zone::new(min_x, min_y, max_x, max_y)? })
    }
}

impl FromStr for Point {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match numbers(text) {
            Some([x, y]) if x.is_finite() && y.is_finite() => Ok(Self { x, y }),
            _ => Err(PlaceError::NotAPoint),
        }
    }
}

fn radius(text: &str) -> Result<f64, String> {
    let radius = text.parse().ok().filter(|radius: &f64| radius.is_finite() && *radius >= 0.0);
    radius.ok_or_else(|| "expected a number of at least 0".to_owned())
}

fn state_key(text: &str) -> Result<String, zonecast_protocol::NameError> {
    zonecast_protocol::check_state_key(text)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_places_are_checked() {
        let zone: WorldZone = "earth:-1,-2.5,3,4e2".parse().unwrap();
        assert_eq!((zone.world.as_str(), zone.zone.min(), zone.zone.max()), ("earth", [-1.0, -2.5], [3.0, 400.0]));
        for bad in
            ["", "earth", "earth:", "earth:1,2,3", "earth:1,2,3,4,5", "e h:0,0,1,1", "earth:2,0,1,1", "e:0,0,1,nan"]
        {
            assert!(bad.parse::<WorldZone>().is_err(), "{bad:?}");
        }
        assert_eq!("-1, 2".parse::<Point>().unwrap(), Point { x: -1.0, y: 2.0 });
        for bad in ["", "1", "1,2,3", "1,x", "inf,0"] {
            assert!(bad.parse::<Point>().is_err(), "{bad:?}");
        }
        assert!(radius("0").is_ok() && radius("-1").is_err() && radius("nan").is_err());
    }
}
