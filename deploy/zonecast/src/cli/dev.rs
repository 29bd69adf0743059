//! Arguments of `zonecast dev`.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use clap::Args;

use super::Speed;

/// Run a broker with a small world that lives and the services beside it, and watch it
///
/// A week of real earthquakes is played over the zones of 175 countries, each a client of the broker. Needs no
/// certificate and no configuration: keys are made for the run. Ends with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast dev
    zonecast dev --seconds 10 --json
    zonecast dev --data ./world
    zonecast dev --speed 100000 --workers 2 --listen 127.0.0.1:5000 --admin-listen 127.0.0.1:9500")]
pub(crate) struct DevArgs {
    /// End after so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub(crate) seconds: Option<u64>,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
    /// How fast the week passes: 1 is the clock, the default plays it in a minute, max does not wait at all.
    #[arg(long, value_name = "X|max", default_value = "10000")]
    pub(crate) speed: Speed,
    /// Worker threads of the broker. Default: one per core.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// The UDP address of the broker; port 0 lets the system pick one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433")]
    pub(crate) listen: SocketAddr,
    /// The TCP address of its admin HTTP server; port 0 lets the system pick one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9433")]
    pub(crate) admin_listen: SocketAddr,
    /// The TCP address of the services, on loopback; port 0 lets the system pick one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9443")]
    pub(crate) services_listen: SocketAddr,
    /// The directory in which the services keep what they know. Default: one for this run.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}
