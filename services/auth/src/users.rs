//! The users service, as it is called from here.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tonic::{Code, Request, Response, Status, metadata::AsciiMetadataValue};
use zonecast_access::RightsClaim;
use zonecast_api::users::v1::users_service_client::UsersServiceClient;
use zonecast_doors::Peers;
use zonecast_protocol::users::v1::{CreateUserRequest, DeleteUserRequest, GetUserRequest, User, get_user_request::By};
use zonecast_store::Uuid;

use crate::{Clock, issuer::Issuer};

/// How long a call may take: less than callers of ours wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who calls, `sub` and `sid` of the token.
const SUBJECT: &str = "service:auth";
const LOGIN: &str = "auth";
/// A token is not used any more so long before it expires.
const MARGIN: Duration = Duration::from_secs(60);

/// Calls of the users service, by a token of our own.
pub(crate) struct Users {
    client: UsersServiceClient<Peers>,
    issuer: Arc<Issuer>,
    clock: Clock,
    token: Mutex<Option<(AsciiMetadataValue, OffsetDateTime)>>,
}

impl Users {
    pub(crate) fn new(peers: Peers, issuer: Arc<Issuer>, clock: Clock) -> Self {
        Self { client: UsersServiceClient::new(peers), issuer, clock, token: Mutex::new(None) }
    }

    /// The user of this name.
    pub(crate) async fn by_name(&self, name: &str) -> Result<Option<Uuid>, Status> {
        let found = self.find(By::Name(name.to_owned())).await?;
        let id = |user: User| Uuid::try_parse(&user.id);
        found.map(id).transpose().map_err(|_| Status::internal("the users service gives an id that is none"))
    }

    /// The name of a user.
    pub(crate) async fn name(&self, user: Uuid) -> Result<Option<String>, Status> {
        Ok(self.find(By::Id(user.hyphenated().to_string())).await?.map(|user| user.name))
    }

    async fn find(&self, by: By) -> Result<Option<User>, Status> {
        let request = GetUserRequest { by: Some(by) };
        match self.call(request, async |mut users, request| users.get_user(request).await).await {
            Ok(answer) => Ok(answer.into_inner().user),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(passed_on(status)),
        }
    }

    /// Makes a user with this id; what is wrong with the name is passed on.
    pub(crate) async fn create(&self, user: Uuid, name: &str) -> Result<(), Status> {
        let id = user.hyphenated().to_string();
        let request = CreateUserRequest { name: name.to_owned(), id };
        let created = self.call(request, async |mut users, request| users.create_user(request).await).await;
        created.map(|_| ()).map_err(passed_on)
    }

    /// Deletes a user, if there is one.
    pub(crate) async fn delete(&self, user: Uuid) -> Result<(), Status> {
        let request = DeleteUserRequest { id: user.hyphenated().to_string(), etag: String::new() };
        match self.call(request, async |mut users, request| users.delete_user(request).await).await {
            Err(status) if status.code() != Code::NotFound => Err(passed_on(status)),
            _ => Ok(()),
        }
    }

    /// Makes a call, and once more with another token where ours is refused: the key that it was signed by may be gone.
    async fn call<M: Clone, A>(
        &self,
        message: M,
        call: impl AsyncFn(UsersServiceClient<Peers>, Request<M>) -> Result<Response<A>, Status>,
    ) -> Result<Response<A>, Status> {
        match call(self.client.clone(), self.request(message.clone())?).await {
            Err(status) if status.code() == Code::Unauthenticated => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
                call(self.client.clone(), self.request(message)?).await
            }
            outcome => outcome,
        }
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        request.metadata_mut().insert("authorization", self.authorization()?);
        Ok(request)
    }

    fn authorization(&self) -> Result<AsciiMetadataValue, Status> {
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, until)) = held.as_ref()
            && self.clock.now() < *until
        {
            return Ok(value.clone());
        }
        let subject = SUBJECT.parse().map_err(|_| Status::internal("our own name is none"))?;
        let scopes = BTreeSet::from(["users.read".to_owned(), "users.write".to_owned()]);
        let token = self.issuer.sign(subject, LOGIN.to_owned(), None, scopes, &RightsClaim::default())?;
        let value = format!("Bearer {}", token.text).parse();
        let value: AsciiMetadataValue = value.map_err(|_| Status::internal("our own token is none"))?;
        *held = Some((value.clone(), token.expires_at - MARGIN));
        Ok(value)
    }
}

/// What callers of ours may be told of an error of the users service: about the name all; that we may not call it is our
/// trouble, not theirs.
fn passed_on(status: Status) -> Status {
    match status.code() {
        Code::InvalidArgument | Code::AlreadyExists | Code::NotFound | Code::ResourceExhausted => {
            Status::new(status.code(), status.message())
        }
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
            tracing::error!(code = ?status.code(), reason = status.message(), "the users service refuses the auth service");
            Status::internal("the users service refuses the auth service; its log says more")
        }
        _ => {
            tracing::warn!(code = ?status.code(), "the users service does not answer as it should");
            Status::unavailable("the users service does not answer; try again")
        }
    }
}
