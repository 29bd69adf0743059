//! What has changed, for those outside who were away: `zonecast.changes.v1.ChangesService`.

use prost::Message;
use tonic::{Request, Response, Status, service::Routes};
use zonecast_api::changes::v1::changes_service_server::{ChangesService, ChangesServiceServer};
use zonecast_doors::Caller;
use zonecast_protocol::changes::v1::{ListChangesRequest, ListChangesResponse, ListedChange};
use zonecast_store::{Database, outbox::Committed};

pub(crate) use zonecast_api::changes::v1::changes_service_server::SERVICE_NAME;

/// The scope that `zonecast.changes.v1.ChangesService` asks for.
pub const READ: &str = "changes.read";

/// Changes on a page where none are asked for, and the most.
const PAGE_CHANGES: u32 = 100;
const PAGE_CHANGES_MAX: u32 = 1_000;

/// What a change costs in the answer beside itself: the field's tag, and its length in up to five bytes.
const FIELD_BYTES_MAX: usize = 6;

/// The changes of the stores that a host has.
struct Listed {
    database: Database,
    stores: Vec<&'static str>,
    message_bytes_max: usize,
}

/// Puts the service behind the doors.
pub(crate) fn mount(database: Database, stores: Vec<&'static str>, message_bytes_max: usize, routes: Routes) -> Routes {
    let server = ChangesServiceServer::new(Listed { database, stores, message_bytes_max })
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(message_bytes_max);
    routes.add_service(server)
}

#[tonic::async_trait]
impl ChangesService for Listed {
    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        Caller::of(&request)?.require(READ)?;
        let ListChangesRequest { store, after_sequence, page_size } = request.into_inner();
        if !self.stores.contains(&store.as_str()) {
            return Err(Status::not_found("these services keep no such store"));
        }
        let changes_max = match u32::try_from(page_size) {
            Ok(0) => PAGE_CHANGES,
            Ok(size) => size.min(PAGE_CHANGES_MAX),
            Err(_) => return Err(Status::invalid_argument("page_size is below 0")),
        };
        let after = i64::try_from(after_sequence)
            .map_err(|_| Status::invalid_argument("after_sequence is the number of no change"))?;
        let mut read = self.database.changes(&store, after, changes_max).await?;
        if after < read.pruned {
            if after > 0 {
                let message = format!("changes behind {after} are gone; go on with after_sequence = {}", read.pruned);
                return Err(Status::out_of_range(message));
            }
            // Of those before, only what was never published is left.
            read = self.database.changes(&store, read.pruned, changes_max).await?;
        }
        Ok(Response::new(ListChangesResponse { changes: page(read.changes, self.message_bytes_max) }))
    }
}

/// As many as one answer holds; one at least, so that who cannot read it is told why.
fn page(changes: Vec<Committed>, bytes_max: usize) -> Vec<ListedChange> {
    let mut bytes = 0;
    let listed =
        changes.into_iter().map(|Committed { topic, change, .. }| ListedChange { topic, change: Some(change) });
    let fits = |(at, change): &(usize, ListedChange)| {
        bytes += change.encoded_len() + FIELD_BYTES_MAX;
        *at == 0 || bytes <= bytes_max
    };
    listed.enumerate().take_while(fits).map(|(_, change)| change).collect()
}

#[cfg(test)]
mod tests;
