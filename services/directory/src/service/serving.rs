//! What game servers do: leases and zones.

use tonic::{Request, Status};
use zonecast_doors::Caller;
use zonecast_protocol::{
    Zone,
    directory::v1::{
        ClaimRequest, ClaimResponse, DeregisterRequest, DeregisterResponse, HandOverRequest, HandOverResponse,
        HeartbeatRequest, HeartbeatResponse, RegisterRequest, RegisterResponse, ReleaseRequest, ReleaseResponse,
        ReplaceRequest, ReplaceResponse, ZoneClaim,
    },
};
use zonecast_store::Uuid;

use super::{Directory, who};
use crate::{DirectoryStore, Exchange, Registration, StoredZone, rectangle};

/// Most zones in one request.
const ZONES_MAX: usize = 1_024;
/// Most worlds of a server.
const WORLDS_MAX: usize = 64;
/// Longest address.
const ADDRESS_BYTES_MAX: usize = 255;

impl<S: DirectoryStore> Directory<S> {
    pub(super) async fn register_server(&self, request: Request<RegisterRequest>) -> Result<RegisterResponse, Status> {
        let caller = Caller::of(&request)?.clone();
        let RegisterRequest { name, address, capacity, certificate_sha256, worlds } = request.into_inner();
        let name = who::server(&caller, &name)?;
        check_address(&address)?;
        if !matches!(certificate_sha256.len(), 0 | 32) {
            return Err(Status::invalid_argument("certificate_sha256 has 32 bytes, or none"));
        }
        if worlds.len() > WORLDS_MAX {
            return Err(Status::invalid_argument(format!("a server has at most {WORLDS_MAX} worlds")));
        }
        for world in &worlds {
            rectangle::check_world(world)?;
            caller.require_right(|rights| rights.check_world(world))?;
        }
        let (pin, rights) = (certificate_sha256.to_vec(), who::rights(&caller));
        let registration = Registration { name: name.clone(), address, capacity, pin, worlds, rights };
        let (lease, revision) = self.ledger.register(registration).await?;
        self.changed().await?;
        tracing::info!(server = name, "a server is registered");
        let (lease, revision) = (lease.simple().to_string(), revision.unsigned_abs());
        Ok(RegisterResponse { lease, lease_ms: self.lease_ms(), name, revision })
    }

    pub(super) async fn renew_lease(&self, request: Request<HeartbeatRequest>) -> Result<HeartbeatResponse, Status> {
        let name = who::server(Caller::of(&request)?, &request.get_ref().name)?;
        let HeartbeatRequest { lease, load, players, .. } = request.into_inner();
        if !load.is_finite() || load < 0.0 {
            return Err(Status::invalid_argument("load must be finite, 0 or more"));
        }
        let zones_revision = self.ledger.renew(&name, self::lease(&lease), load, players).await?.unsigned_abs();
        Ok(HeartbeatResponse { lease_ms: self.lease_ms(), zones_revision })
    }

    pub(super) async fn end_lease(&self, request: Request<DeregisterRequest>) -> Result<DeregisterResponse, Status> {
        let name = who::server(Caller::of(&request)?, &request.get_ref().name)?;
        self.ledger.deregister(&name, lease(&request.get_ref().lease)).await?;
        self.changed().await?;
        Ok(DeregisterResponse {})
    }

    pub(super) async fn claim_zones(&self, request: Request<ClaimRequest>) -> Result<ClaimResponse, Status> {
        let caller = Caller::of(&request)?.clone();
        let ClaimRequest { name, lease, zones, permit_overlaps } = request.into_inner();
        check_count(zones.len(), 1)?;
        let exchange = Exchange { release: Vec::new(), claim: claims(&caller, zones)?, permit_overlaps };
        let (zones, revision) = self.exchange(&caller, &name, &lease, exchange).await?;
        Ok(ClaimResponse { zones: messages(&zones), revision })
    }

    pub(super) async fn replace_zones(&self, request: Request<ReplaceRequest>) -> Result<ReplaceResponse, Status> {
        let caller = Caller::of(&request)?.clone();
        let ReplaceRequest { name, lease, release, claim, permit_overlaps } = request.into_inner();
        check_count(release.len(), 0)?;
        check_count(claim.len(), 0)?;
        let exchange = Exchange { release: ids(&release), claim: claims(&caller, claim)?, permit_overlaps };
        let (zones, revision) = self.exchange(&caller, &name, &lease, exchange).await?;
        Ok(ReplaceResponse { zones: messages(&zones), revision })
    }

    pub(super) async fn release_zones(&self, request: Request<ReleaseRequest>) -> Result<ReleaseResponse, Status> {
        let caller = Caller::of(&request)?.clone();
        let ReleaseRequest { name, lease, zone_ids } = request.into_inner();
        check_count(zone_ids.len(), 1)?;
        let exchange = Exchange { release: ids(&zone_ids), ..Exchange::default() };
        let (_, revision) = self.exchange(&caller, &name, &lease, exchange).await?;
        Ok(ReleaseResponse { revision })
    }

    pub(super) async fn hand_over_zones(&self, request: Request<HandOverRequest>) -> Result<HandOverResponse, Status> {
        let name = who::server(Caller::of(&request)?, &request.get_ref().name)?;
        let HandOverRequest { lease, zone_ids, to_server, epoch, .. } = request.into_inner();
        check_count(zone_ids.len(), 1)?;
        if to_server == name {
            return Err(Status::invalid_argument("to_server is the server itself"));
        }
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        let (zones, revision) =
            self.ledger.hand_over(&name, self::lease(&lease), &ids(&zone_ids), &to_server, epoch).await?;
        self.changed().await?;
        Ok(HandOverResponse { zones: messages(&zones), revision: revision.unsigned_abs() })
    }

    async fn exchange(
        &self,
        caller: &Caller,
        named: &str,
        lease: &str,
        exchange: Exchange,
    ) -> Result<(Vec<StoredZone>, u64), Status> {
        let name = who::server(caller, named)?;
        let (zones, revision) = self.ledger.exchange(&name, self::lease(lease), exchange).await?;
        self.changed().await?;
        Ok((zones, revision.unsigned_abs()))
    }

    fn lease_ms(&self) -> u32 {
        u32::try_from(self.ledger.lease().as_millis()).unwrap_or(u32::MAX)
    }
}

/// What is wanted, if the caller may have it.
fn claims(caller: &Caller, wanted: Vec<ZoneClaim>) -> Result<Vec<(String, Zone)>, Status> {
    let mut claims = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let (world, zone) = rectangle::claim(wanted)?;
        caller.require_right(|rights| rights.check_zone(&world, &zone))?;
        claims.push((world, zone));
    }
    Ok(claims)
}

/// A text that is no lease of ours is that of nobody.
fn lease(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_default()
}

/// An id that no zone has is that of none.
fn ids(ids: &[u64]) -> Vec<i64> {
    ids.iter().map(|id| i64::try_from(*id).unwrap_or_default()).collect()
}

fn messages(zones: &[StoredZone]) -> Vec<zonecast_protocol::directory::v1::Zone> {
    zones.iter().map(StoredZone::message).collect()
}

fn check_count(zones: usize, zones_min: usize) -> Result<(), Status> {
    if (zones_min..=ZONES_MAX).contains(&zones) {
        Ok(())
    } else {
        Err(Status::invalid_argument(format!("{zones} zones; give {zones_min} to {ZONES_MAX}")))
    }
}

/// A host and a port; that the host is there is for the players to find out.
fn check_address(address: &str) -> Result<(), Status> {
    let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic()) && address.len() <= ADDRESS_BYTES_MAX;
    let parts = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let has_port = parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if is_plain && has_port {
        Ok(())
    } else {
        Err(Status::invalid_argument("address must be host:port, at most 255 bytes"))
    }
}
