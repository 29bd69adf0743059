//! `zonecast game-server`: what a game server does to be one, without a game.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tonic::transport::Channel;
use zonecast_api::directory::v1::directory_service_client::DirectoryServiceClient;
use zonecast_client::{Client, ZoneSpec};
use zonecast_protocol::directory::v1::{
    ClaimRequest, DeregisterRequest, HeartbeatRequest, Rectangle, RegisterRequest, ZoneClaim,
};

use crate::{
    cli::GameServerArgs,
    connecting::{Connector, tell},
    credentials::{self, Credential},
    try_it::show_zone_item,
};

/// Runs the command.
///
/// # Errors
/// The broker or the directory cannot be reached or refuses, or the lease is lost.
pub(crate) async fn run(args: GameServerArgs) -> anyhow::Result<()> {
    let connector = Connector::new(&args.connect)?;
    let ca = args.connect.ca.as_ref().context("no authority to trust: give --ca FILE or set ZONECAST_CA")?;
    let ca = std::fs::read_to_string(ca).with_context(|| format!("{} cannot be read", ca.display()))?;
    let name = args.connect.server_name.as_deref().unwrap_or(&args.services.host);
    let channel = credentials::channel(&args.services.to_string(), name, &ca)?;
    let credential = Arc::new(Credential::read(channel.clone(), &args.credential)?);
    let tokens = Arc::clone(&credential);
    let config = connector.client(args.name.to_string()).token_from(move || {
        let tokens = Arc::clone(&tokens);
        async move { tokens.token().await }
    });
    let client = Client::connect(config).await?;
    let specs = (1..).zip(&args.zones).map(|(id, zone)| ZoneSpec::new(id, zone.world.as_str(), zone.zone));
    // Before the claim: whoever is told of this server finds it listening.
    let mut zones = client.subscribe_zones(specs).await?;
    let mut lease = Lease::take(DirectoryServiceClient::new(channel), credential, &args).await?;
    tell(&format!("{} simulates {} zones; players are sent to {}", args.name, args.zones.len(), args.address));
    let ended = loop {
        tokio::select! {
            item = zones.next() => match item {
                Some(item) => drop(show_zone_item(&item, args.json)?),
                None => anyhow::bail!("the connection to the broker is closed for good"),
            },
            kept = lease.keep() => break kept,
            stopped = tokio::signal::ctrl_c() => break stopped.context("Ctrl-C cannot be watched"),
        }
    };
    lease.give_back().await;
    client.close().await.ok();
    ended
}

/// The lease under which zones are held.
struct Lease {
    directory: DirectoryServiceClient<Channel>,
    credential: Arc<Credential>,
    name: String,
    lease: String,
    lasts: Duration,
}

impl Lease {
    /// Registers, and claims the zones.
    async fn take(
        mut directory: DirectoryServiceClient<Channel>,
        credential: Arc<Credential>,
        args: &GameServerArgs,
    ) -> anyhow::Result<Self> {
        let name = args.name.to_string();
        let mut worlds: Vec<String> = args.zones.iter().map(|zone| zone.world.to_string()).collect();
        worlds.sort();
        worlds.dedup();
        let register = RegisterRequest {
            name: name.clone(),
            address: args.address.to_string(),
            capacity: args.capacity,
            worlds,
            ..Default::default()
        };
        let registered = directory.register(credential.request(register).await?).await;
        let registered = registered.context("the directory does not take this server")?.into_inner();
        let claim = |zone: &crate::cli::WorldZone| {
            let ([min_x, min_y], [max_x, max_y]) = (zone.zone.min(), zone.zone.max());
            ZoneClaim { world: zone.world.to_string(), rectangle: Some(Rectangle { min_x, min_y, max_x, max_y }) }
        };
        let claim = ClaimRequest {
            name: name.clone(),
            lease: registered.lease.clone(),
            zones: args.zones.iter().map(claim).collect(),
            permit_overlaps: false,
        };
        let lasts = Duration::from_millis(registered.lease_ms.into());
        let mut lease = Self { directory, credential, name, lease: registered.lease, lasts };
        let claimed = lease.directory.claim(lease.credential.request(claim).await?).await;
        if claimed.is_err() {
            lease.give_back().await;
        }
        claimed.context("the directory refuses the zones")?;
        Ok(lease)
    }

    /// Renews the lease, a third of its time before each next renewal, until that is refused. Can be dropped and called anew.
    async fn keep(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(self.lasts / 3).await;
            let heartbeat =
                HeartbeatRequest { name: self.name.clone(), lease: self.lease.clone(), ..Default::default() };
            let request = self.credential.request(heartbeat).await?;
            self.directory.heartbeat(request).await.context("the lease was not renewed")?;
        }
    }

    /// Gives the zones back. What fails here ends with the lease.
    async fn give_back(&mut self) {
        let deregister = DeregisterRequest { name: self.name.clone(), lease: self.lease.clone() };
        if let Ok(request) = self.credential.request(deregister).await {
            let _ = self.directory.deregister(request).await;
        }
    }
}
