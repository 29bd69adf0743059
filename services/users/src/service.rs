//! The service: requests in, answers out, and the store between.

use std::sync::Arc;

use tokio::sync::Notify;
use tonic::{Request, Response, Status};
use zonecast_api::users::v1::users_service_server::UsersService;
use zonecast_doors::Caller;
use zonecast_names::{Name, lookup_key};
use zonecast_protocol::users::v1::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse, GetUserRequest, GetUserResponse,
    ListUsersRequest, ListUsersResponse, UpdateUserRequest, UpdateUserResponse, get_user_request::By,
};
use zonecast_store::{Etag, PageToken, StoreError, Uuid, attempts, new_id, now};

use crate::{Changed, StoredUser, UserStore};

/// The rights that are asked for.
const READ: &str = "users.read";
const WRITE: &str = "users.write";
/// Every scope that the service asks for.
pub(crate) const SCOPES: &[&str] = &[READ, WRITE];

/// The list that page tokens are for.
const LIST: &str = "users";
/// Users on a page where none are asked for, and the most.
const PAGE_USERS: u32 = 50;
const PAGE_USERS_MAX: u32 = 1_000;

/// The users service over a store.
#[derive(Debug, Clone)]
pub struct Users<S> {
    store: S,
    changed: Arc<Notify>,
}

impl<S: UserStore> Users<S> {
    /// The service. `changed` is notified after each change, for the relay.
    #[must_use]
    pub fn new(store: S, changed: Arc<Notify>) -> Self {
        Self { store, changed }
    }

    /// Why a name cannot be had. A name that is taken breaks both rules, and each database tells of another first.
    async fn taken(&self, name: &Name, error: &StoreError) -> Status {
        if !matches!(error, StoreError::Duplicate { .. }) {
            error.status()
        } else if error.is_duplicate_of(S::NAME_KEY) || matches!(self.store.by_key(name.key()).await, Ok(Some(_))) {
            Status::already_exists("the name is taken")
        } else {
            Status::already_exists("the name looks like one that is taken")
        }
    }

    /// What becomes of a change, in gRPC's words.
    fn settled(&self, changed: Changed) -> Result<StoredUser, Status> {
        match changed {
            Changed::Done(user) => {
                self.changed.notify_one();
                Ok(user)
            }
            Changed::NotFound => Err(not_found()),
            Changed::Stale => Err(Status::aborted("the etag is not that of the user as it is; get it again")),
        }
    }
}

#[tonic::async_trait]
impl<S: UserStore> UsersService for Users<S> {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        Caller::of(&request)?.require(WRITE)?;
        let CreateUserRequest { name: text, id: chosen } = request.get_ref();
        let name = name(text)?;
        let (id, now) = (if chosen.is_empty() { new_id() } else { id(chosen)? }, now());
        if id.is_nil() {
            return Err(Status::invalid_argument("id is the nil UUID, which is nobody's"));
        }
        let user = match attempts(|| self.store.create(id, &name, now)).await {
            Ok(user) => user,
            Err(error) => match self.store.by_id(id).await? {
                // What was made is made, however often it is asked for.
                Some(made) if made.name == name.shown() => made,
                Some(_) => return Err(Status::already_exists("another user has this id")),
                None => return Err(self.taken(&name, &error).await),
            },
        };
        self.changed.notify_one();
        tracing::info!(user = %user.id, "a user was made");
        Ok(Response::new(CreateUserResponse { user: Some(user.message()) }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let found = match request.into_inner().by {
            None => return Err(Status::invalid_argument("give an id or a name")),
            Some(By::Id(text)) => {
                let id = id(&text)?;
                caller.require_own_or(&id.hyphenated().to_string(), READ)?;
                self.store.by_id(id).await?
            }
            Some(By::Name(text)) => {
                caller.require(READ)?;
                match lookup_key(&text) {
                    Some(key) => self.store.by_key(&key).await?,
                    None => None,
                }
            }
        };
        let user = found.ok_or_else(not_found)?.message();
        Ok(Response::new(GetUserResponse { user: Some(user) }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let UpdateUserRequest { id: text, etag, name: new_name } = request.into_inner();
        let id = id(&text)?;
        caller.require_own_or(&id.hyphenated().to_string(), WRITE)?;
        let etag = self::etag(&etag)?;
        let changed = match new_name {
            Some(text) => {
                let (name, now) = (name(&text)?, now());
                match attempts(|| self.store.rename(id, etag, &name, now)).await {
                    Ok(changed) => changed,
                    Err(error) => return Err(self.taken(&name, &error).await),
                }
            }
            None => match self.store.by_id(id).await? {
                None => Changed::NotFound,
                Some(user) if user.etag != etag => Changed::Stale,
                Some(user) => Changed::Done(user),
            },
        };
        let user = self.settled(changed)?.message();
        Ok(Response::new(UpdateUserResponse { user: Some(user) }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        Caller::of(&request)?.require(READ)?;
        let ListUsersRequest { page_size, page_token } = request.get_ref();
        let users_max = match u32::try_from(*page_size) {
            Ok(0) => PAGE_USERS,
            Ok(size) => size.min(PAGE_USERS_MAX),
            Err(_) => return Err(Status::invalid_argument("page_size is below 0")),
        };
        let bad = |error: zonecast_store::BadPageToken| Status::invalid_argument(error.to_string());
        let after = match PageToken::decode(LIST, page_token).map_err(bad)? {
            None => None,
            Some(key) => Some(Uuid::from_slice(&key).map_err(|_| bad(zonecast_store::BadPageToken))?),
        };
        // One more, to know whether there is a next page.
        let mut users = self.store.list(after, users_max + 1).await?;
        let is_last = users.len() <= users_max as usize;
        users.truncate(users_max as usize);
        let next_page_token = match users.last() {
            Some(last) if !is_last => PageToken::encode(LIST, last.id.as_bytes()),
            _ => String::new(),
        };
        let users = users.iter().map(StoredUser::message).collect();
        Ok(Response::new(ListUsersResponse { users, next_page_token }))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let DeleteUserRequest { id: text, etag } = request.into_inner();
        let id = id(&text)?;
        caller.require_own_or(&id.hyphenated().to_string(), WRITE)?;
        let etag = if etag.is_empty() { None } else { Some(self::etag(&etag)?) };
        let now = now();
        let user = self.settled(attempts(|| self.store.delete(id, etag, now)).await?)?;
        tracing::info!(user = %user.id, "a user was deleted");
        Ok(Response::new(DeleteUserResponse {}))
    }
}

fn id(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| Status::invalid_argument("the id is no UUID"))
}

fn name(text: &str) -> Result<Name, Status> {
    Name::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// One that is not ours cannot be that of any state.
fn etag(text: &str) -> Result<Etag, Status> {
    match text {
        "" => Err(Status::invalid_argument("give the etag of the user as you know it")),
        text => text.parse().map_err(|error: zonecast_store::BadEtag| Status::aborted(error.to_string())),
    }
}

fn not_found() -> Status {
    Status::not_found("there is no such user")
}
