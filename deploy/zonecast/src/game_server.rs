//! `zonecast game-server`: what a game server does to be one, without a game.

use std::time::Duration;

use anyhow::Context;
use tokio::{sync::watch, time::interval};
use zonecast_client::Client;
use zonecast_zone_server::{Lease, ZoneServer, ZoneServerConfig, Zones};

use crate::{
    cli::GameServerArgs,
    connecting::{Connector, tell},
    credentials::{self, Credential},
    try_it::show_zone_item,
};

/// How often the token is looked at. It is a new one when it is half over.
const TOKEN_EVERY: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// The broker or the directory cannot be reached or refuses, or the lease is lost.
pub(crate) async fn run(args: GameServerArgs) -> anyhow::Result<()> {
    let connector = Connector::new(&args.connect)?;
    let ca = args.connect.ca.as_ref().context("no authority to trust: give --ca FILE or set ZONECAST_CA")?;
    let ca = std::fs::read_to_string(ca).with_context(|| format!("{} cannot be read", ca.display()))?;
    let name = args.connect.server_name.as_deref().unwrap_or(&args.services.host);
    let endpoint = credentials::endpoint(&args.services.to_string(), name, &ca)?;
    let credential = Credential::in_file(endpoint, args.credential);
    let token = watch::Sender::new(credential.token().await?);
    let client = Client::connect(credential.shown_by(connector.client(args.name.to_string()))).await?;
    let config = ZoneServerConfig {
        capacity: args.capacity,
        token: Some(token.subscribe()),
        ..ZoneServerConfig::new(args.address.to_string())
    };
    let (server, zones) = ZoneServer::join(client.clone(), config).await.context("the directory does not take it")?;
    let wanted = args.zones.iter().map(|zone| (zone.world.to_string(), zone.zone));
    let claimed = server.claim(wanted).await.context("the zones cannot be claimed");
    let served = match claimed {
        Ok(claimed) => {
            tell(&format!("{} simulates {} zones; players are sent to {}", args.name, claimed.len(), args.address));
            serve(server.lease(), zones, &credential, &token, args.json).await
        }
        Err(error) => Err(error),
    };
    // Where that fails, the lease ends by itself.
    server.leave().await.ok();
    client.close().await.ok();
    served
}

/// Prints what happens, until the end is asked for or there is nothing to serve any more.
async fn serve(
    mut lease: watch::Receiver<Lease>,
    mut zones: Zones,
    credential: &Credential,
    token: &watch::Sender<String>,
    as_json: bool,
) -> anyhow::Result<()> {
    let mut look = interval(TOKEN_EVERY);
    loop {
        tokio::select! {
            item = zones.next() => match item {
                Some(item) => drop(show_zone_item(&item, as_json)?),
                None => anyhow::bail!("the connection to the broker is closed for good"),
            },
            lost = lease.wait_for(|lease| *lease == Lease::Lost) => {
                drop(lost);
                anyhow::bail!("the lease is lost: the zones may be another server's");
            }
            _ = look.tick() => match credential.token().await {
                Ok(new) => drop(token.send_replace(new)),
                Err(error) => tell(&format!("no new token yet: {error:#}")),
            },
            stopped = tokio::signal::ctrl_c() => return stopped.context("Ctrl-C cannot be watched"),
        }
    }
}
