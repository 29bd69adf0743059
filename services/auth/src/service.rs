//! The service: requests in, answers out.

mod audit;
mod bans;
mod credentials;
mod external;
mod logins;
mod passwords;

use std::sync::Arc;

use tokio::sync::Notify;
use tonic::{Request, Response, Status};
use zonecast_api::auth::v1::auth_service_server::AuthService;
use zonecast_doors::Caller;
use zonecast_host::{Ground, MountError};
use zonecast_protocol::auth::v1::*;
use zonecast_store::{Uuid, to_micros};

pub(crate) use credentials::SCOPES;
pub use credentials::{ADMIN_SCOPES, CredentialError, NewCredential};

use crate::{
    AuthConfig,
    external::Externals,
    hashing::Hashing,
    issuer::Issuer,
    store::Store,
    throttle::{Attempt, Place, Throttle},
    users::Users,
};

/// The auth service. Clones are the same service.
#[derive(Clone)]
pub struct Auth {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: AuthConfig,
    pub(crate) store: Store,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) users: Users,
    hashing: Hashing,
    throttle: Throttle,
    externals: Externals,
    changed: Arc<Notify>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({:?})", self.shared.config)
    }
}

impl Auth {
    /// The service with a key to sign with, and what is trusted up to date.
    ///
    /// # Errors
    /// The settings contradict themselves, or the database does not answer.
    pub async fn start(config: &AuthConfig, ground: &Ground) -> Result<Self, MountError> {
        let store = Store::new(ground.database.clone());
        let issuer = Arc::new(Issuer::new(config, store.clone()));
        issuer.rotate().await?;
        let users = Users::new(ground.peers.clone(), Arc::clone(&issuer), config.clock.clone());
        let shared = Shared {
            config: config.clone(),
            store,
            issuer,
            users,
            hashing: Hashing::new(&config.hashing)?,
            throttle: Throttle::new(&config.throttle),
            externals: Externals::new(&config.providers)?,
            changed: Arc::clone(&ground.changed),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn now(&self) -> i64 {
        to_micros(self.shared.config.clock.now())
    }

    /// After a change that may have ended logins: it counts here at once, and is told.
    async fn revoked(&self) {
        self.shared.changed.notify_one();
        self.shared.issuer.changed().await;
    }

    /// An attempt of somebody, on an account where there is one in play; refused where there were too many.
    async fn attempt(&self, caller: &Caller, account: Option<&str>, subject: String) -> Result<Attempt, Status> {
        let now = self.now();
        match self.shared.throttle.attempt(account, Place::of(caller.origin()), now) {
            Ok(attempt) => Ok(attempt),
            Err(held_back) => {
                let seconds = held_back.wait.as_secs() + 1;
                // One entry for the first of a row, or a flood would fill the log.
                if held_back.is_first {
                    let entry = self.entry(caller, "throttled", subject, "throttled");
                    self.note(entry).await;
                }
                Err(Status::resource_exhausted(format!("too many attempts; try again in {seconds} s")))
            }
        }
    }
}

/// A player who calls, with the login that the call belongs to.
fn player(caller: &Caller) -> Result<(Uuid, Uuid), Status> {
    let needed = || Status::unauthenticated("this needs a player's access token: log in");
    let login = caller.claims().ok_or_else(needed)?.login.parse().map_err(|_| needed())?;
    let user = caller.user().ok_or_else(needed)?.parse().map_err(|_| needed())?;
    Ok((user, login))
}

/// A user's id.
fn user_id(text: &str) -> Result<Uuid, Status> {
    Uuid::try_parse(text).map_err(|_| Status::invalid_argument("the user's id is no UUID"))
}

/// Hands each call to the method of its name, with its caller.
macro_rules! calls {
    ($($method:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl AuthService for Auth {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let caller = Caller::of(&request)?.clone();
                self.$method(&caller, request.into_inner()).await.map(Response::new)
            })+
        }
    };
}

calls! {
    register(RegisterRequest) -> RegisterResponse;
    log_in(LogInRequest) -> LogInResponse;
    refresh(RefreshRequest) -> RefreshResponse;
    log_out(LogOutRequest) -> LogOutResponse;
    log_out_everywhere(LogOutEverywhereRequest) -> LogOutEverywhereResponse;
    change_password(ChangePasswordRequest) -> ChangePasswordResponse;
    begin_external(BeginExternalRequest) -> BeginExternalResponse;
    log_in_external(LogInExternalRequest) -> LogInExternalResponse;
    link_identity(LinkIdentityRequest) -> LinkIdentityResponse;
    unlink_identity(UnlinkIdentityRequest) -> UnlinkIdentityResponse;
    list_identities(ListIdentitiesRequest) -> ListIdentitiesResponse;
    ban_user(BanUserRequest) -> BanUserResponse;
    lift_ban(LiftBanRequest) -> LiftBanResponse;
    create_credential(CreateCredentialRequest) -> CreateCredentialResponse;
    issue_token(IssueTokenRequest) -> IssueTokenResponse;
    revoke_credential(RevokeCredentialRequest) -> RevokeCredentialResponse;
    list_credentials(ListCredentialsRequest) -> ListCredentialsResponse;
    list_audit(ListAuditRequest) -> ListAuditResponse;
    get_keys(GetKeysRequest) -> GetKeysResponse;
}
