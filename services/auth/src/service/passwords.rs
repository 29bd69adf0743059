//! Registering and logging in by a password, and changing it.

use tonic::{Code, Status};
use zonecast_doors::Caller;
use zonecast_names::{Name, lookup_key};
use zonecast_protocol::auth::v1::{
    ChangePasswordRequest, ChangePasswordResponse, LogInRequest, LogInResponse, RegisterRequest, RegisterResponse,
    Tokens,
};
use zonecast_store::{StoreError, Uuid, new_id};

use super::{
    Auth,
    audit::{tell, unknown},
    player,
};
use crate::{
    password::Password,
    store::{Account, Entry, WayIn, subject},
    throttle::Place,
};

impl Auth {
    pub(super) async fn register(&self, caller: &Caller, request: RegisterRequest) -> Result<RegisterResponse, Status> {
        let RegisterRequest { name, password } = request;
        // Every one counts, lest one origin make users without end.
        let _ = self.attempt(caller, None, unknown(&name)).await?;
        let password =
            Password::chosen(&password, &name).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.check_free(&name).await?;
        let hash = self.shared.hashing.hash(password.as_str(), Place::of(caller.origin())).await?;
        let (user, tokens) = self.make_user(caller, &name, WayIn::Password(&hash)).await?;
        Ok(RegisterResponse { user_id: user.hyphenated().to_string(), tokens: Some(tokens) })
    }

    /// Refuses what the users service would refuse, before it costs anything.
    pub(super) async fn check_free(&self, name: &str) -> Result<(), Status> {
        Name::new(name).map_err(|error| Status::invalid_argument(error.to_string()))?;
        match self.shared.users.by_name(name).await? {
            None => Ok(()),
            Some(_) => Err(Status::already_exists("the name is taken")),
        }
    }

    /// Makes a user with a way in, and logs it in. The user has its id before it is made, and that is kept until it can log
    /// in: should we be interrupted, it is deleted again (see `upkeep`).
    pub(super) async fn make_user(
        &self,
        caller: &Caller,
        name: &str,
        way: WayIn<'_>,
    ) -> Result<(Uuid, Tokens), Status> {
        let user = new_id();
        let (login, refresh) = self.new_login()?;
        self.shared.store.begin_registration(user, login.created_at).await?;
        if let Err(status) = self.shared.users.create(user, name).await {
            // Of anything else it is not known whether the user was made.
            if matches!(status.code(), Code::InvalidArgument | Code::AlreadyExists) {
                self.shared.store.forget_registration(user).await?;
            }
            return Err(status);
        }
        let entry = self.entry(caller, "register", subject(user), "ok");
        let failed = match self.shared.store.register(user, way, &login, &entry).await {
            Ok(true) => {
                tell(&entry);
                return Ok((user, self.tokens(user, login.id, &refresh, login.expires_at)?));
            }
            Ok(false) => {
                self.note(Entry { outcome: "refused", ..entry }).await;
                Status::unauthenticated("it took too long, or the nonce was used already; begin again")
            }
            Err(StoreError::Duplicate { .. }) => Status::already_exists("somebody has this identity already"),
            // It may have been done.
            Err(error) => return Err(error.status()),
        };
        if self.shared.users.delete(user).await.is_ok() {
            self.shared.store.forget_registration(user).await?;
        }
        Err(failed)
    }

    pub(super) async fn log_in(&self, caller: &Caller, request: LogInRequest) -> Result<LogInResponse, Status> {
        let LogInRequest { name, password } = request;
        // What cannot be a name is counted together.
        let key = lookup_key(&name).unwrap_or_default();
        let attempt = self.attempt(caller, Some(&key), unknown(&name)).await?;
        let found = self.check(caller, &key, &password).await;
        let (user, hash) = match found {
            Ok((Some(user), Some(hash))) => (user, hash),
            Ok((user, _)) => {
                let whose = user.map_or_else(|| unknown(&name), subject);
                self.note(self.entry(caller, "log_in", whose, "wrong")).await;
                return Err(Status::unauthenticated("the name or the password is wrong"));
            }
            Err(status) => {
                self.shared.throttle.does_not_count(attempt);
                return Err(status);
            }
        };
        self.shared.throttle.went_well(attempt);
        let (login, refresh) = self.new_login()?;
        let entry = self.entry(caller, "log_in", subject(user), "ok");
        let outcome = self.shared.store.log_in(user, &hash, &login, &entry).await?;
        let tokens = self.settled(caller, "log_in", user, outcome, (&login, &refresh)).await?;
        Ok(LogInResponse { user_id: user.hyphenated().to_string(), tokens: Some(tokens) })
    }

    /// The user of that name, and the hash of its password if that is the one. The same is done whether there is such a
    /// user and whether it has a password or not, so that the time tells nothing.
    async fn check(
        &self,
        caller: &Caller,
        name: &str,
        password: &str,
    ) -> Result<(Option<Uuid>, Option<String>), Status> {
        let user = self.shared.users.by_name(name).await?;
        let account = self.shared.store.account(user.unwrap_or_default()).await?;
        let hash = account.and_then(|account| account.password_hash);
        let Some(password) = Password::new(password) else { return Ok((user, None)) };
        let place = Place::of(caller.origin());
        let is_right = self.shared.hashing.verify(hash.as_deref(), password.as_str(), place).await?;
        Ok((user, hash.filter(|_| is_right)))
    }

    pub(super) async fn change_password(
        &self,
        caller: &Caller,
        request: ChangePasswordRequest,
    ) -> Result<ChangePasswordResponse, Status> {
        let (user, login) = player(caller)?;
        let gone = || Status::unauthenticated("the user is gone");
        let account = self.shared.store.account(user).await?.ok_or_else(gone)?;
        let name = self.shared.users.name(user).await?.ok_or_else(gone)?;
        let new = Password::chosen(&request.new_password, &name);
        let new = new.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let attempt = self.attempt(caller, Some(&subject(user)), subject(user)).await?;
        match self.is_old(caller, &account, &request.old_password).await {
            Ok(true) => self.shared.throttle.went_well(attempt),
            Ok(false) => {
                self.note(self.entry(caller, "change_password", subject(user), "wrong")).await;
                return Err(Status::permission_denied("the old password is wrong"));
            }
            Err(status) => {
                self.shared.throttle.does_not_count(attempt);
                return Err(status);
            }
        }
        let hash = self.shared.hashing.hash(new.as_str(), Place::of(caller.origin())).await?;
        let entry: Entry = self.entry(caller, "change_password", subject(user), "ok");
        let ending = self.shared.issuer.ending("change_password");
        let old = account.password_hash.as_deref();
        if !self.shared.store.set_password(user, old, &hash, login, &ending, &entry).await? {
            return Err(Status::aborted("the password was changed by another call at the same time"));
        }
        tell(&entry);
        self.revoked().await;
        Ok(ChangePasswordResponse {})
    }

    /// Whether this is the password of the account; nothing is, where it has none.
    async fn is_old(&self, caller: &Caller, account: &Account, old: &str) -> Result<bool, Status> {
        match (&account.password_hash, Password::new(old)) {
            (None, _) => Ok(old.is_empty()),
            (Some(_), None) => Ok(false),
            (Some(hash), Some(old)) => {
                self.shared.hashing.verify(Some(hash), old.as_str(), Place::of(caller.origin())).await
            }
        }
    }
}
