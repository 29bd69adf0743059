//! Arguments of `zonecast game-server`.

use std::path::PathBuf;

use clap::Args;
use zonecast_protocol::ClientId;

use super::{Address, ConnectArgs, try_it::WorldZone};

/// Stand in for a game server: claim zones at the directory, subscribe to them at the broker, print what happens there
///
/// It subscribes first and claims then, so that no event is missed by whoever is told that it simulates the place. It
/// renews its lease until Ctrl-C, and then gives its zones back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    zonecast game-server --name meadow --credential meadow.json --zone meadow:0,0,1000,1000

  The credential, of an administrator, for a subject of that name:
    zonecast credential --subject server:meadow --scope directory.serve \\
        --rights '{\"worlds\": [\"meadow\"], \"zones\": [[0, 0, 1000, 1000]], \"topics\": \\
            {\"publish\": [\"_rpc.zonecast.directory.v1.DirectoryService.*\"]}}' > meadow.json")]
pub(crate) struct GameServerArgs {
    /// Its name, that of its credential.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: ClientId,
    /// The file with its credential, JSON with clientId and secret.
    #[arg(long, value_name = "FILE")]
    pub(crate) credential: PathBuf,
    /// A zone to claim: its world and its corners; repeatable.
    #[arg(long = "zone", value_name = "WORLD:MINX,MINY,MAXX,MAXY", required = true, allow_hyphen_values = true)]
    pub(crate) zones: Vec<WorldZone>,
    /// The address that players are told.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7777")]
    pub(crate) address: Address,
    /// How many players it takes.
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) capacity: u32,
    /// Print events as JSON, one object per line.
    #[arg(long)]
    pub(crate) json: bool,
    /// The services' host and port.
    #[arg(long, value_name = "ADDR", env = "ZONECAST_SERVICES", default_value = "127.0.0.1:9443")]
    pub(crate) services: Address,
    /// The broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}
