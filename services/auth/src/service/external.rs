//! Identities of other providers.

use tonic::{Code, Status};
use zonecast_doors::Caller;
use zonecast_protocol::auth::v1::{
    BeginExternalRequest, BeginExternalResponse, ExternalProof, LinkIdentityRequest, LinkIdentityResponse,
    ListIdentitiesRequest, ListIdentitiesResponse, LogInExternalRequest, LogInExternalResponse, UnlinkIdentityRequest,
    UnlinkIdentityResponse,
};
use zonecast_store::{StoreError, timestamp, to_micros};

use super::{Auth, audit::tell, player};
use crate::{
    secrets::{Hash, Secret},
    store::{Entry, Linked, StoredIdentity, Unlinked, WayIn, subject},
    throttle::Attempt,
};

impl Auth {
    pub(super) async fn begin_external(
        &self,
        caller: &Caller,
        request: BeginExternalRequest,
    ) -> Result<BeginExternalResponse, Status> {
        let provider = self.shared.externals.get(&request.provider)?.name();
        // Every one counts: each takes room until it expires.
        let _ = self.attempt(caller, None, format!("provider:{provider}")).await?;
        let nonce = Secret::new()?;
        let expires_at = self.shared.config.clock.now() + self.shared.config.lives.nonce;
        self.shared.store.add_nonce(&nonce.hash(), provider, to_micros(expires_at)).await?;
        Ok(BeginExternalResponse { nonce: nonce.show(), expires_at: Some(timestamp(expires_at)) })
    }

    /// Whose identity a proof shows, and the nonce to be used up with it. The attempt counts until what is proved is made use
    /// of, since each asks a provider in our name; that the provider does not answer is nobody's fault here.
    async fn proved(
        &self,
        caller: &Caller,
        event: &'static str,
        proof: Option<ExternalProof>,
    ) -> Result<(StoredIdentity, Hash, Attempt), Status> {
        let proof = proof.ok_or_else(|| Status::invalid_argument("give the proof"))?;
        let external = self.shared.externals.get(&proof.provider)?;
        let whose = || format!("provider:{}", external.name());
        let attempt = self.attempt(caller, None, whose()).await?;
        let now = self.now();
        let proving = async {
            let unknown = || Status::unauthenticated("the nonce is not known, has expired, or was used already");
            let nonce = Secret::parse(&proof.nonce).ok_or_else(unknown)?.hash();
            if !self.shared.store.has_nonce(external.name(), &nonce, now).await? {
                return Err(unknown());
            }
            let subject = external.who(&proof.token, &proof.nonce, now.div_euclid(1_000_000)).await?;
            let (issuer, provider) = (external.issuer().to_owned(), external.name().to_owned());
            Ok((StoredIdentity { issuer, subject, provider, linked_at: now }, nonce))
        };
        match proving.await {
            Err(status) if status.code() == Code::Unauthenticated => {
                let detail = status.message().to_owned();
                self.note(Entry { detail, ..self.entry(caller, event, whose(), "refused") }).await;
                Err(status)
            }
            Err(status) => {
                self.shared.throttle.does_not_count(attempt);
                Err(status)
            }
            Ok((identity, nonce)) => Ok((identity, nonce, attempt)),
        }
    }

    pub(super) async fn log_in_external(
        &self,
        caller: &Caller,
        request: LogInExternalRequest,
    ) -> Result<LogInExternalResponse, Status> {
        let event = "log_in_external";
        let (identity, nonce, attempt) = self.proved(caller, event, request.proof).await?;
        let Some(user) = self.shared.store.whose(&identity.issuer, &identity.subject).await? else {
            if request.name.is_empty() {
                return Err(Status::not_found("nobody has this identity; give a name to register with it"));
            }
            self.check_free(&request.name).await?;
            let (user, tokens) = self.make_user(caller, &request.name, WayIn::Identity(&identity, &nonce)).await?;
            self.shared.throttle.does_not_count(attempt);
            let (user_id, tokens) = (user.hyphenated().to_string(), Some(tokens));
            return Ok(LogInExternalResponse { user_id, tokens, registered: true });
        };
        let (login, refresh) = self.new_login()?;
        let entry = Entry { detail: identity.provider.clone(), ..self.entry(caller, event, subject(user), "ok") };
        let outcome = self.shared.store.log_in_by_identity(user, &identity, &nonce, &login, &entry).await?;
        let tokens = self.settled(caller, event, user, outcome, (&login, &refresh)).await?;
        self.shared.throttle.does_not_count(attempt);
        let (user_id, tokens) = (user.hyphenated().to_string(), Some(tokens));
        Ok(LogInExternalResponse { user_id, tokens, registered: false })
    }

    pub(super) async fn link_identity(
        &self,
        caller: &Caller,
        request: LinkIdentityRequest,
    ) -> Result<LinkIdentityResponse, Status> {
        let (user, _) = player(caller)?;
        let (identity, nonce, attempt) = self.proved(caller, "link", request.proof).await?;
        let detail = identity.provider.clone();
        let entry = Entry { detail, ..self.entry(caller, "link", subject(user), "ok") };
        match self.shared.store.link(user, &identity, &nonce, &entry).await {
            Ok(Linked::Done) => {
                tell(&entry);
                self.shared.throttle.does_not_count(attempt);
                Ok(LinkIdentityResponse { identity: Some(identity.message()) })
            }
            Ok(Linked::Nonce) => {
                self.note(Entry { outcome: "refused", ..entry }).await;
                Err(Status::unauthenticated("the nonce has expired or was used already"))
            }
            Ok(Linked::TooMany) => {
                Err(Status::resource_exhausted("a user has at most 16 identities; unlink one first"))
            }
            Ok(Linked::NoAccount) => Err(Status::unauthenticated("the user is gone")),
            Err(StoreError::Duplicate { .. }) => Err(Status::already_exists("somebody has this identity already")),
            Err(error) => Err(error.status()),
        }
    }

    pub(super) async fn unlink_identity(
        &self,
        caller: &Caller,
        request: UnlinkIdentityRequest,
    ) -> Result<UnlinkIdentityResponse, Status> {
        let (user, _) = player(caller)?;
        let entry = Entry { detail: request.issuer.clone(), ..self.entry(caller, "unlink", subject(user), "ok") };
        match self.shared.store.unlink(user, &request.issuer, &request.subject, &entry).await? {
            Unlinked::Done => {
                tell(&entry);
                Ok(UnlinkIdentityResponse {})
            }
            Unlinked::NotFound => Err(Status::not_found("the user has no such identity")),
            Unlinked::Last => {
                Err(Status::failed_precondition("it is the last way in; set a password or link another identity first"))
            }
        }
    }

    pub(super) async fn list_identities(
        &self,
        caller: &Caller,
        _request: ListIdentitiesRequest,
    ) -> Result<ListIdentitiesResponse, Status> {
        let (user, _) = player(caller)?;
        let account = self.shared.store.account(user).await?;
        let has_password = account.is_some_and(|account| account.password_hash.is_some());
        let identities = self.shared.store.identities(user).await?;
        Ok(ListIdentitiesResponse {
            identities: identities.iter().map(StoredIdentity::message).collect(),
            has_password,
        })
    }
}
