//! Arguments of `zonecast loadtest`.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Args, ValueEnum};
use zonecast_loadtest::load::{LoadAck, LoadClass, LoadSettings, Rate, Scenario};

use super::ConnectArgs;

/// Measure a broker under load, and check every delivery against brute force
///
/// Sessions hold the zones of a made-up world and publishers fill it with events, in processes of their own. Without
/// --connect (or ZONECAST_CONNECT) it runs a broker meanwhile, in a process of its own as well, whose CPU time and
/// memory it reads from the system; ZONECAST_… variables configure it as they do `zonecast broker`.
///
/// With --rate N the time of each event is fixed before the run, and its latency counts from then: a slow broker cannot
/// hide. With --rate max each publisher keeps --window events under way. Exits with 1 when reliable events were lost,
/// duplicated or delivered to the wrong sessions, or nothing was delivered.
///
/// The JSON report says `generator.saturated` when this program, not the broker, was the bottleneck.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  As fast as it goes: 256 zones, 32 sessions, each event touches 4 zones of different sessions:
    zonecast loadtest

  Latency at 100,000 deliveries per second, with a report to look at:
    zonecast loadtest --rate 25000 --fan-out 4 --seconds 10 --html report.html

  10,000 zones that move 10,000 times per second while events are published:
    zonecast loadtest --scenario moving --zones 10000 --moves-per-second 10000 --rate 5000 --json

  One subscriber of 32 stops reading; the figures are those of the others:
    zonecast loadtest --frozen 1 --rate 5000

  A broker that runs elsewhere:
    zonecast loadtest --connect broker.internal:4433 --ca certs/ca.pem --rate 10000 --seconds 60")]
pub(crate) struct LoadtestArgs {
    /// The world.
    #[command(flatten)]
    pub(crate) world: WorldArgs,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Print the report as JSON.
    #[arg(long, help_heading = "Report")]
    pub(crate) json: bool,
    /// A file to write a report with plots to; it needs nothing beside it.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) html: Option<PathBuf>,
    /// The broker; none named: one of its own.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Zones, and who holds them.
#[derive(Debug, Args)]
#[command(next_help_heading = "World")]
pub(crate) struct WorldArgs {
    /// Where zones lie and events happen.
    #[arg(long, value_enum, default_value = "grid")]
    pub(crate) scenario: ScenarioArg,
    /// Zones in all.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) zones: u32,
    /// Sessions that hold them, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) sessions: u32,
    /// Sessions that an event reaches in the mean; in a grid exactly: 1, 4, 9, 16, 25 or 36.
    #[arg(long, value_name = "F", default_value_t = 4.0)]
    pub(crate) fan_out: f64,
    /// Moves of zones per second, all together (--scenario moving).
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    pub(crate) moves_per_second: f64,
    /// Sessions that stop reading when the run begins.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) frozen: u32,
    /// From which zones and events follow.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Events, and who publishes them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// Publishers, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) publishers: u32,
    /// Bytes of each payload, at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub(crate) payload: u32,
    /// Events per second of all publishers together, or max.
    #[arg(long, value_name = "N|max", default_value = "max")]
    pub(crate) rate: Rate,
    /// With --rate max: events that each publisher keeps under way.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) window: u32,
    /// Milliseconds for which the broker may hold deliveries back, so that several go out together; at most 100.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) coalesce_ms: u32,
    /// Most bytes of a UDP payload at both ends, 1200 to 65527: loopback carries more than Ethernet does.
    #[arg(long, value_name = "BYTES", default_value_t = 1_452)]
    pub(crate) udp_payload: u16,
    /// How long is measured.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How many seconds are published before that, not measured, but checked.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// What is promised about each delivery.
    #[arg(long, value_enum, default_value = "reliable")]
    pub(crate) class: ClassArg,
    /// What publishers wait for.
    #[arg(long, value_enum, default_value = "routed")]
    pub(crate) ack: AckArg,
    /// Worker threads of the broker that it runs itself. Default: one per core.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroU32>,
    /// Processes that host sessions; publishers have one more.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) generators: u32,
}

/// `--scenario`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ScenarioArg {
    /// Unit zones side by side; each event touches exactly --fan-out of them, each of another session
    Grid,
    /// Rectangles of mixed sizes anywhere
    Random,
    /// Unit zones; events gather around a few places
    Hotspot,
    /// Unit zones; events just touch, or just miss, edges and corners
    Border,
    /// Unit zones that move while events are published
    Moving,
}

/// `--class`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ClassArg {
    /// Everything arrives, in order
    Reliable,
    /// The latest of each key arrives
    State,
    /// At most once
    Transient,
}

/// `--ack`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AckArg {
    /// The event is in the queues of all whom it concerns
    Routed,
    /// All whom it concerns have processed it
    Processed,
}

impl LoadtestArgs {
    /// The settings that the arguments name, not checked yet.
    pub(crate) fn settings(&self) -> LoadSettings {
        let (world, load) = (&self.world, &self.load);
        LoadSettings {
            scenario: match world.scenario {
                ScenarioArg::Grid => Scenario::Grid,
                ScenarioArg::Random => Scenario::Random,
                ScenarioArg::Hotspot => Scenario::Hotspot,
                ScenarioArg::Border => Scenario::Border,
                ScenarioArg::Moving => Scenario::Moving,
            },
            zones: world.zones,
            sessions: world.sessions,
            publishers: load.publishers,
            fan_out: world.fan_out,
            payload_bytes: load.payload,
            rate: load.rate,
            seconds: load.seconds,
            warm_up_s: load.warm_up,
            class: match load.class {
                ClassArg::Reliable => LoadClass::Reliable,
                ClassArg::State => LoadClass::State,
                ClassArg::Transient => LoadClass::Transient,
            },
            ack: match load.ack {
                AckArg::Routed => LoadAck::Routed,
                AckArg::Processed => LoadAck::Processed,
            },
            workers: load.workers.map(NonZeroU32::get),
            moves_per_second: world.moves_per_second,
            frozen: world.frozen,
            window: load.window,
            coalesce_ms: load.coalesce_ms,
            udp_payload_bytes_max: load.udp_payload,
            generators: load.generators,
            seed: world.seed,
        }
    }
}
