//! What can be asked.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use tonic::{Request, Status};
use zonecast_doors::Caller;
use zonecast_protocol::{
    Zone,
    directory::v1::{
        CoverageRequest, CoverageResponse, ListServersRequest, ListServersResponse, LookupRequest, LookupResponse,
        SnapshotRequest, SnapshotResponse,
    },
};
use zonecast_store::{BadPageToken, PageToken};

use super::{Directory, who};
use crate::{DirectoryStore, StoredServer, coverage, rectangle};

/// Most zones and servers on a page.
const PAGE_ZONES_MAX: usize = 1_000;
const PAGE_SERVERS_MAX: usize = 100;
/// Most zones within a rectangle whose coverage is asked for.
const COVERAGE_ZONES_MAX: usize = 10_000;
/// Most rectangles of either sort in an answer.
const RECTANGLES_MAX: usize = 1_000;

/// The list that page tokens of servers are for.
const SERVERS: &str = "servers";

impl<S: DirectoryStore> Directory<S> {
    pub(super) fn find(&self, request: &Request<LookupRequest>) -> Result<LookupResponse, Status> {
        who::check_reader(Caller::of(request)?)?;
        let LookupRequest { world, x, y } = request.get_ref();
        rectangle::check_world(world)?;
        if !x.is_finite() || !y.is_finite() {
            return Err(Status::invalid_argument("x and y must be finite"));
        }
        let found = self.index.lookup(world, *x, *y);
        let found = found.ok_or_else(|| Status::not_found(format!("nobody owns ({x}, {y}) of {world:?}")))?;
        Ok(LookupResponse {
            zone: Some(found.zone),
            address: found.server.address,
            certificate_sha256: found.server.certificate_sha256,
            revision: found.revision,
        })
    }

    pub(super) fn page_of_zones(&self, request: &Request<SnapshotRequest>) -> Result<SnapshotResponse, Status> {
        who::check_reader(Caller::of(request)?)?;
        let SnapshotRequest { world, server, page_size, page_token } = request.get_ref();
        let zones_max = size(*page_size, PAGE_ZONES_MAX)?;
        let list = format!("zones/{world}/{server}");
        let after = match PageToken::decode(&list, page_token).map_err(bad)? {
            None => 0,
            Some(key) => u64::from_be_bytes(key.try_into().map_err(|_| bad(BadPageToken))?),
        };
        // One more, to know whether there is a next page.
        let (found, revision) = self.index.page(world, server, after, zones_max + 1);
        let found_count = found.len();
        let (mut zones, mut servers, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        for (zone, mut server) in found.into_iter().take(zones_max) {
            // As they were when the server registered, and so worth nothing.
            (server.load, server.players) = (0.0, 0);
            bytes += zone.encoded_len() + if servers.contains_key(&zone.server) { 0 } else { server.encoded_len() };
            if bytes > self.page_bytes_max() && !zones.is_empty() {
                break;
            }
            servers.insert(zone.server.clone(), server);
            zones.push(zone);
        }
        let next_page_token = match zones.last() {
            Some(last) if zones.len() < found_count => PageToken::encode(&list, &last.id.to_be_bytes()),
            _ => String::new(),
        };
        Ok(SnapshotResponse { zones, servers: servers.into_values().collect(), revision, next_page_token })
    }

    pub(super) async fn page_of_servers(
        &self,
        request: &Request<ListServersRequest>,
    ) -> Result<ListServersResponse, Status> {
        who::check_reader(Caller::of(request)?)?;
        let ListServersRequest { page_size, page_token } = request.get_ref();
        let servers_max = size(*page_size, PAGE_SERVERS_MAX)?;
        let after = match PageToken::decode(SERVERS, page_token).map_err(bad)? {
            None => String::new(),
            Some(key) => String::from_utf8(key).map_err(|_| bad(BadPageToken))?,
        };
        let mut found = self.store.servers(&after, i64::try_from(servers_max + 1).unwrap_or(i64::MAX)).await?;
        let is_last = found.len() <= servers_max;
        found.truncate(servers_max);
        let next_page_token = match found.last() {
            Some(last) if !is_last => PageToken::encode(SERVERS, last.name.as_bytes()),
            _ => String::new(),
        };
        Ok(ListServersResponse { servers: found.iter().map(StoredServer::message).collect(), next_page_token })
    }

    pub(super) async fn cover(&self, request: Request<CoverageRequest>) -> Result<CoverageResponse, Status> {
        who::check_reader(Caller::of(&request)?)?;
        let CoverageRequest { world, within } = request.get_ref();
        rectangle::check_world(world)?;
        let within = rectangle::zone(within.as_ref())?;
        let has_area = (0..2).all(|axis| within.min()[axis] < within.max()[axis]);
        if !has_area {
            return Err(Status::invalid_argument("within has no area"));
        }
        let (zones, revision) = self.index.within(world, &within);
        if zones.len() > COVERAGE_ZONES_MAX {
            return Err(Status::resource_exhausted(format!(
                "more than {COVERAGE_ZONES_MAX} zones lie there; ask for less"
            )));
        }
        let place = Arc::clone(&self.covering).acquire_owned().await;
        // It may take a while, for which others are not to wait; and it goes on if nobody waits for it any more.
        let found = tokio::task::spawn_blocking(move || {
            let found = coverage(&zones, &within);
            drop(place);
            found
        });
        let found = found.await;
        let found = found.map_err(|_| Status::internal("the coverage could not be found out"))?;
        let more = found.holes.len() > RECTANGLES_MAX || found.overlaps.len() > RECTANGLES_MAX;
        let first = |zones: &[Zone]| zones.iter().take(RECTANGLES_MAX).map(rectangle::message).collect();
        Ok(CoverageResponse { holes: first(&found.holes), overlaps: first(&found.overlaps), more, revision })
    }
}

fn size(asked: i32, most: usize) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(most),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(Status::invalid_argument("page_size is below 0")),
    }
}

fn bad(error: BadPageToken) -> Status {
    Status::invalid_argument(error.to_string())
}
