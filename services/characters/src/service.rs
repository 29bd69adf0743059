//! The service: requests in, answers out, and the store between.

use std::sync::Arc;

use prost::Message;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};
use zonecast_api::characters::v1::characters_service_server::CharactersService;
use zonecast_doors::Caller;
use zonecast_names::Name;
use zonecast_protocol::{
    WorldName,
    characters::v1::{
        Character, CreateCharacterRequest, CreateCharacterResponse, DeleteCharacterRequest, DeleteCharacterResponse,
        GetCharacterRequest, GetCharacterResponse, ListCharactersRequest, ListCharactersResponse, Place,
        SavePlaceRequest, SavePlaceResponse, UpdateCharacterRequest, UpdateCharacterResponse,
    },
};
use zonecast_store::{BadPageToken, Etag, PageToken, StoreError, Uuid, attempts, new_id, now};

use crate::{
    Change, Changed, CharacterStore, Config, Created, Draft, Quota, StoredCharacter,
    looks::{LooksError, check_appearance, check_body, check_outfit},
    standing::{SERVE, Standing},
};

/// What a back office needs.
const READ: &str = "characters.read";
const WRITE: &str = "characters.write";
/// Every scope that the service asks for.
pub(crate) const SCOPES: &[&str] = &[READ, WRITE, SERVE];

/// Most characters on a page.
const PAGE_CHARACTERS_MAX: u32 = 100;

/// The characters service over a store.
#[derive(Debug, Clone)]
pub struct Characters<S> {
    store: S,
    changed: Arc<Notify>,
    config: Config,
    page_bytes_max: usize,
}

impl<S: CharacterStore> Characters<S> {
    /// The service. `changed` is notified after each change, for the relay; no message is longer than
    /// `message_bytes_max`.
    #[must_use]
    pub fn new(store: S, changed: Arc<Notify>, config: Config, message_bytes_max: usize) -> Self {
        Self { store, changed, config, page_bytes_max: message_bytes_max / 2 }
    }

    /// The character with this id, if the caller may know of it. Whose it is and where it lives never changes.
    async fn seen(&self, standing: &Standing, id: Uuid) -> Result<StoredCharacter, Status> {
        self.store.by_id(id).await?.filter(|character| standing.sees(character)).ok_or_else(not_found)
    }

    /// What becomes of a change, in gRPC's words.
    fn settled(&self, changed: Changed) -> Result<StoredCharacter, Status> {
        match changed {
            Changed::Done(character) => {
                self.changed.notify_one();
                Ok(*character)
            }
            Changed::NotFound => Err(not_found()),
            Changed::Stale => Err(Status::aborted("the etag is not that of the character as it is; get it again")),
        }
    }

    fn draft(&self, user: Uuid, request: CreateCharacterRequest) -> Result<Draft, Status> {
        let CreateCharacterRequest { world, name, body, appearance, outfit, .. } = request;
        let name = self::name(&name)?;
        let (body, appearance, outfit) =
            (body.unwrap_or_default(), appearance.unwrap_or_default(), outfit.unwrap_or_default());
        check_body(&body).map_err(looks)?;
        check_appearance(&appearance).map_err(looks)?;
        check_outfit(&outfit).map_err(looks)?;
        check_world(&world)?;
        if !self.config.worlds.is_empty() && !self.config.worlds.iter().any(|known| known.as_str() == world) {
            return Err(Status::failed_precondition("no characters can be made in this world"));
        }
        Ok(Draft { id: new_id(), user, world, name, body, appearance, outfit })
    }

    /// As many of these as an answer holds, at least one.
    fn fitting(&self, characters: Vec<Character>) -> Vec<Character> {
        let mut bytes = 0;
        let mut page = Vec::with_capacity(characters.len());
        for character in characters {
            bytes += character.encoded_len();
            if bytes > self.page_bytes_max && !page.is_empty() {
                break;
            }
            page.push(character);
        }
        page
    }
}

#[tonic::async_trait]
impl<S: CharacterStore> CharactersService for Characters<S> {
    async fn create_character(
        &self,
        request: Request<CreateCharacterRequest>,
    ) -> Result<Response<CreateCharacterResponse>, Status> {
        let standing = Standing::of(Caller::of(&request)?, WRITE)?;
        let request = request.into_inner();
        let user = standing.user(&request.user_id)?;
        let (draft, now) = (self.draft(user, request)?, now());
        let quota = Quota { per_world_max: self.config.per_world_max, per_user_max: self.config.per_user_max };
        let full = |max, of| Err(Status::failed_precondition(format!("there are {max} characters {of} already")));
        match attempts(|| self.store.create(&draft, quota, now)).await.map_err(taken)? {
            Created::Done(character) => {
                self.changed.notify_one();
                tracing::info!(character = %character.id, user = %character.user, "a character was made");
                Ok(Response::new(CreateCharacterResponse { character: Some(character.message()) }))
            }
            Created::WorldIsFull => full(quota.per_world_max, "in this world"),
            Created::UserIsFull => full(quota.per_user_max, "in all worlds"),
            Created::UserIsGone => Err(Status::failed_precondition("the user was deleted")),
        }
    }

    async fn get_character(
        &self,
        request: Request<GetCharacterRequest>,
    ) -> Result<Response<GetCharacterResponse>, Status> {
        let standing = Standing::of(Caller::of(&request)?, READ)?;
        let character = self.seen(&standing, id(&request.get_ref().id)?).await?.message();
        Ok(Response::new(GetCharacterResponse { character: Some(character) }))
    }

    async fn update_character(
        &self,
        request: Request<UpdateCharacterRequest>,
    ) -> Result<Response<UpdateCharacterResponse>, Status> {
        let standing = Standing::of(Caller::of(&request)?, WRITE)?;
        let UpdateCharacterRequest { character, update_mask } = request.into_inner();
        let character = character.ok_or_else(|| Status::invalid_argument("give a character"))?;
        let (id, etag) = (id(&character.id)?, etag(&character.etag)?);
        let paths = update_mask.unwrap_or_default().paths;
        if matches!(standing, Standing::Server(_)) && paths.iter().any(|path| path != "outfit") {
            return Err(Status::permission_denied(format!(
                "the scope {WRITE} is missing; you may change outfits alone"
            )));
        }
        let (change, now) = (change(character, &paths)?, now());
        self.seen(&standing, id).await?;
        let changed = attempts(|| self.store.update(id, etag, &change, now)).await.map_err(taken)?;
        let character = self.settled(changed)?.message();
        Ok(Response::new(UpdateCharacterResponse { character: Some(character) }))
    }

    async fn list_characters(
        &self,
        request: Request<ListCharactersRequest>,
    ) -> Result<Response<ListCharactersResponse>, Status> {
        let standing = Standing::of(Caller::of(&request)?, READ)?;
        let ListCharactersRequest { user_id, world, page_size, page_token } = request.get_ref();
        let user = standing.user(user_id)?;
        let characters_max = match u32::try_from(*page_size) {
            Ok(0) => PAGE_CHARACTERS_MAX,
            Ok(size) => size.min(PAGE_CHARACTERS_MAX),
            Err(_) => return Err(Status::invalid_argument("page_size is below 0")),
        };
        let list = format!("characters/{}/{world}", user.hyphenated());
        let bad = |error: BadPageToken| Status::invalid_argument(error.to_string());
        let after = match PageToken::decode(&list, page_token).map_err(bad)? {
            None => None,
            Some(key) => Some(Uuid::from_slice(&key).map_err(|_| bad(BadPageToken))?),
        };
        let world = if world.is_empty() { None } else { check_world(world).map(|()| Some(world.as_str()))? };
        // One more, to know whether there is a next page.
        let mut found = self.store.list(user, world, after, characters_max + 1).await?;
        let found_count = found.len();
        found.truncate(characters_max as usize);
        let characters = self.fitting(found.iter().map(StoredCharacter::message).collect());
        let next_page_token = match characters.len().checked_sub(1).and_then(|last| found.get(last)) {
            Some(last) if characters.len() < found_count => PageToken::encode(&list, last.id.as_bytes()),
            _ => String::new(),
        };
        Ok(Response::new(ListCharactersResponse { characters, next_page_token }))
    }

    async fn delete_character(
        &self,
        request: Request<DeleteCharacterRequest>,
    ) -> Result<Response<DeleteCharacterResponse>, Status> {
        let standing = Standing::of(Caller::of(&request)?, WRITE)?;
        if matches!(standing, Standing::Server(_)) {
            return Err(Status::permission_denied(format!("the scope {WRITE} is missing")));
        }
        let DeleteCharacterRequest { id: text, etag } = request.into_inner();
        let id = id(&text)?;
        let etag = if etag.is_empty() { None } else { Some(self::etag(&etag)?) };
        self.seen(&standing, id).await?;
        let now = now();
        let character = self.settled(attempts(|| self.store.delete(id, etag, now)).await?)?;
        tracing::info!(character = %character.id, user = %character.user, "a character was deleted");
        Ok(Response::new(DeleteCharacterResponse {}))
    }

    async fn save_place(&self, request: Request<SavePlaceRequest>) -> Result<Response<SavePlaceResponse>, Status> {
        let standing = Standing::of(Caller::of(&request)?, WRITE)?;
        if matches!(standing, Standing::Player(_)) {
            return Err(Status::permission_denied("where characters are is for game servers to say"));
        }
        let SavePlaceRequest { id: text, place } = request.into_inner();
        let (id, place) = (id(&text)?, checked(place)?);
        let character = self.seen(&standing, id).await?;
        if character.world != place.world {
            return Err(Status::invalid_argument("the character lives in another world"));
        }
        if attempts(|| self.store.save_place(id, &place)).await? {
            Ok(Response::new(SavePlaceResponse {}))
        } else {
            Err(not_found())
        }
    }
}

/// What is to change, by the paths of a mask.
fn change(character: Character, paths: &[String]) -> Result<Change, Status> {
    let mut change = Change::default();
    let Character { name, body, appearance, outfit, .. } = character;
    let (body, appearance, outfit) =
        (body.unwrap_or_default(), appearance.unwrap_or_default(), outfit.unwrap_or_default());
    for path in paths {
        match path.as_str() {
            "name" => change.name = Some(self::name(&name)?),
            "body" => {
                check_body(&body).map_err(looks)?;
                change.body = Some(body);
            }
            "appearance" => {
                check_appearance(&appearance).map_err(looks)?;
                change.appearance = Some(appearance.clone());
            }
            "outfit" => {
                check_outfit(&outfit).map_err(looks)?;
                change.outfit = Some(outfit.clone());
            }
            _ => return Err(Status::invalid_argument("update_mask may name name, body, appearance and outfit alone")),
        }
    }
    if paths.is_empty() {
        return Err(Status::invalid_argument("update_mask names nothing"));
    }
    Ok(change)
}

fn checked(place: Option<Place>) -> Result<Place, Status> {
    let place = place.ok_or_else(|| Status::invalid_argument("give a place"))?;
    check_world(&place.world)?;
    if [place.x, place.y, place.heading].into_iter().all(f64::is_finite) {
        Ok(place)
    } else {
        Err(Status::invalid_argument("x, y and heading must be finite"))
    }
}

fn check_world(world: &str) -> Result<(), Status> {
    WorldName::check(world).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn id(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| Status::invalid_argument("the id is no UUID"))
}

fn name(text: &str) -> Result<Name, Status> {
    Name::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn looks(error: LooksError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// One that is not ours cannot be that of any state.
fn etag(text: &str) -> Result<Etag, Status> {
    match text {
        "" => Err(Status::invalid_argument("give the etag of the character as you know it")),
        text => text.parse().map_err(|error: zonecast_store::BadEtag| Status::aborted(error.to_string())),
    }
}

fn taken(error: StoreError) -> Status {
    match error {
        StoreError::Duplicate { .. } => {
            Status::already_exists("the name, or one that looks like it, is taken in this world")
        }
        error => error.status(),
    }
}

fn not_found() -> Status {
    Status::not_found("there is no such character")
}
