//! Where a player goes, and the ticket that lets the player in.

use std::time::SystemTime;

use tonic::{Request, Status, metadata::MetadataMap};
use zonecast_access::Ticket;
use zonecast_api::characters::v1::characters_service_client::CharactersServiceClient;
use zonecast_doors::Caller;
use zonecast_protocol::{
    characters::v1::{Character, GetCharacterRequest},
    directory::v1::{SpawnRequest, SpawnResponse},
};
use zonecast_store::new_id;

use super::Directory;
use crate::DirectoryStore;

/// By which the caller is known to the characters service too.
const AUTHORIZATION: &str = "authorization";

impl<S: DirectoryStore> Directory<S> {
    pub(super) async fn let_in(&self, request: Request<SpawnRequest>) -> Result<SpawnResponse, Status> {
        let caller = Caller::of(&request)?.clone();
        let (metadata, _, SpawnRequest { character_id }) = request.into_parts();
        if caller.user().is_none() && !caller.is_local() {
            // Anonymous callers are told to log in, others that this is not for them.
            caller.require_right(|_| Ok(()))?;
            return Err(Status::permission_denied("tickets are for players"));
        }
        let character = self.character(&metadata, character_id).await?;
        // Who may see others' characters may still not play them.
        if caller.user().is_some_and(|user| user != character.user_id) {
            return Err(Status::not_found("there is no such character"));
        }
        let world = character.world;
        let place = character.place.map(|place| [place.x, place.y]);
        let configured = || self.config.spawn_points.iter().find(|(known, _)| known.as_str() == world);
        let place = place.or_else(|| configured().map(|(_, point)| *point));
        let [x, y] = place.ok_or_else(|| {
            Status::failed_precondition(format!("the character was nowhere yet, and {world:?} has no spawn point"))
        })?;
        let found = self.index.lookup(&world, x, y);
        let server =
            found.ok_or_else(|| Status::unavailable(format!("nobody owns ({x}, {y}) of {world:?} now")))?.server;
        let issued_at = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let ticket = Ticket {
            issuer: self.config.ticket_issuer.clone(),
            server: server.name.clone(),
            user: character.user_id,
            id: new_id().simple().to_string(),
            issued_at,
            expires_at: issued_at + self.keys.ticket_lifetime().as_secs().max(1),
            character: character.id,
            world: world.clone(),
            x,
            y,
        };
        let ticket = self.keys.sign(&ticket).map_err(|error| {
            tracing::error!(error = %error, "a ticket cannot be signed");
            Status::internal("the ticket cannot be signed; the log says more")
        })?;
        let (address, certificate_sha256) = (server.address, server.certificate_sha256);
        Ok(SpawnResponse { server: server.name, address, certificate_sha256, ticket, world, x, y })
    }

    /// The character, as the caller may see it.
    async fn character(&self, metadata: &MetadataMap, id: String) -> Result<Character, Status> {
        let mut request = Request::new(GetCharacterRequest { id });
        if let Some(authorization) = metadata.get(AUTHORIZATION) {
            request.metadata_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let mut characters = CharactersServiceClient::new(self.ground.peers.clone());
        let found = characters.get_character(request).await?.into_inner().character;
        found.ok_or_else(|| Status::internal("the characters service answered with nothing"))
    }
}
