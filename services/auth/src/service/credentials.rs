//! Credentials of game servers and backend services, and their tokens.

use std::collections::BTreeSet;

use thiserror::Error;
use tonic::{Code, Status};
use zonecast_access::{RightsClaim, Subject, certificate_expires_at, certificate_names};
use zonecast_doors::Caller;
use zonecast_protocol::auth::v1::{
    CreateCredentialRequest, CreateCredentialResponse, Credential, IssueTokenRequest, IssueTokenResponse,
    ListCredentialsRequest, ListCredentialsResponse, RevokeCredentialRequest, RevokeCredentialResponse,
};
use zonecast_store::{Database, StoreError, Uuid, new_id, now, timestamp, to_micros};

use super::{
    Auth,
    audit::{AUDIT, next_page, page_key, rows_max, tell, unknown},
    bans::BAN,
};
use crate::{
    issuer::Token,
    secrets::Secret,
    store::{Entry, Proof, Store, StoredCredential},
};

/// Needed for credentials.
const ADMIN: &str = "auth.admin";
/// Every scope that the service asks for.
pub(crate) const SCOPES: &[&str] = &[ADMIN, AUDIT, BAN];
/// Who shows the secret of the settings.
const ADMIN_CLIENT: &str = "admin";
const ADMIN_SUBJECT: &str = "service:admin";
/// What that one may do: every scope of the services, of which this one knows the names alone.
pub const ADMIN_SCOPES: [&str; 11] = [
    ADMIN,
    AUDIT,
    BAN,
    "changes.read",
    "characters.read",
    "characters.serve",
    "characters.write",
    "directory.read",
    "directory.serve",
    "users.read",
    "users.write",
];
/// The list that page tokens are for.
const LIST: &str = "credentials";
/// Bounds of what a credential permits: so that a token with it is one that verifiers look at.
const SCOPES_MAX: usize = 32;
const SCOPE_BYTES_MAX: usize = 64;
const RIGHTS_BYTES_MAX: usize = 4_096;
/// Longest name of a certificate.
const CERTIFICATE_NAME_BYTES_MAX: usize = 255;

/// A credential that was made without the service, with its secret.
#[derive(Clone)]
pub struct NewCredential {
    /// `IssueTokenRequest.client_id`.
    pub client_id: String,
    /// `IssueTokenRequest.secret`. It is kept nowhere. Empty where the bearer shows a certificate.
    pub secret: String,
}

/// Without the secret.
impl std::fmt::Debug for NewCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewCredential({})", self.client_id)
    }
}

/// Why a credential is not made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// It is not that of a server or a service.
    #[error("a credential is for server:NAME or service:NAME")]
    Subject,
    /// A scope breaks the grammar, or there are too many.
    #[error("a credential has at most {SCOPES_MAX} scopes, each of 1 to {SCOPE_BYTES_MAX} of [a-z0-9_.]")]
    Scopes,
    /// The name of the certificate breaks the grammar.
    #[error(
        "a certificate's name is a DNS name or a URI of 1 to {CERTIFICATE_NAME_BYTES_MAX} visible ASCII characters, without *"
    )]
    CertificateName,
    /// The rights are none.
    #[error("the rights cannot be read: {0}")]
    Rights(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The database does not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CredentialError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Scopes => "scopes",
            Self::CertificateName => "certificate_name",
            Self::Rights(_) => "rights",
            Self::NoRandomness => "no_randomness",
            Self::Store(error) => error.kind(),
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Subject | Self::Scopes | Self::CertificateName | Self::Rights(_) => {
                Status::invalid_argument(self.to_string())
            }
            Self::NoRandomness => Status::internal(self.to_string()),
            Self::Store(error) => error.status(),
        }
    }
}

/// A credential as it will be kept, and its secret.
fn drafted(
    request: &CreateCredentialRequest,
    at: i64,
    created_by: String,
) -> Result<(StoredCredential, String), CredentialError> {
    let CreateCredentialRequest { subject, scopes, rights, certificate_name } = request;
    let subject = match subject.parse() {
        Ok(subject @ (Subject::Server(_) | Subject::Service(_))) => subject.to_string(),
        _ => return Err(CredentialError::Subject),
    };
    let is_scope = |scope: &str| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
        (1..=SCOPE_BYTES_MAX).contains(&scope.len()) && scope.bytes().all(is_plain)
    };
    let scopes: BTreeSet<&str> = scopes.iter().map(String::as_str).collect();
    if scopes.len() > SCOPES_MAX || !scopes.iter().all(|scope| is_scope(scope)) {
        return Err(CredentialError::Scopes);
    }
    let rights = self::rights(rights).map_err(CredentialError::Rights)?;
    let (proof, secret) = match certificate_name.as_str() {
        "" => {
            let secret = Secret::new().map_err(|_| CredentialError::NoRandomness)?;
            (Proof::Secret(secret.hash().to_vec()), secret.show())
        }
        name if is_certificate_name(name) => (Proof::Certificate(name.to_owned()), String::new()),
        _ => return Err(CredentialError::CertificateName),
    };
    let credential = StoredCredential {
        client_id: new_id(),
        proof,
        subject,
        scopes: scopes.into_iter().collect::<Vec<_>>().join(" "),
        rights,
        created_at: at,
        created_by,
    };
    Ok((credential, secret))
}

fn is_certificate_name(name: &str) -> bool {
    name.len() <= CERTIFICATE_NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*')
}

/// Whether who calls has shown a certificate for the name that has not expired since.
fn shows(caller: &Caller, name: &str, now_s: u64) -> bool {
    caller.certificate().is_some_and(|certificate| {
        let is_meant = |shown: &String| {
            let is_uri = name.contains(':');
            shown == name || (!is_uri && shown.eq_ignore_ascii_case(name))
        };
        certificate_names(certificate).iter().any(is_meant)
            && certificate_expires_at(certificate).is_some_and(|expires_at| now_s < expires_at)
    })
}

/// A credential by its id as the audit log has it, in whichever form somebody wrote it; or what is none.
fn credential_of(client_id: &str) -> String {
    match Uuid::try_parse(client_id) {
        Ok(id) => id.hyphenated().to_string(),
        Err(_) if client_id == ADMIN_CLIENT => client_id.to_owned(),
        Err(_) => unknown(client_id),
    }
}

/// As the audit log has it.
fn told(credential: &StoredCredential) -> String {
    let proof = match &credential.proof {
        Proof::Secret(_) => String::new(),
        Proof::Certificate(name) => format!(" by a certificate for {name:?}"),
    };
    format!("{} with {:?}{proof}, permitted {}", credential.subject, credential.scopes, credential.rights)
}

/// The claim as it will be signed, from what somebody wrote.
fn rights(json: &str) -> Result<String, String> {
    if json.len() > RIGHTS_BYTES_MAX {
        return Err(format!("they are longer than {RIGHTS_BYTES_MAX} bytes"));
    }
    let claim: RightsClaim = match json {
        "" => RightsClaim::default(),
        // A list would be taken for the fields in their order.
        json if !json.trim_start().starts_with('{') => return Err("they are no object".to_owned()),
        json => serde_json::from_str(json).map_err(|error| error.to_string())?,
    };
    let rights = claim.rights().map_err(|error| error.to_string())?;
    let written = serde_json::to_string(&RightsClaim::of(&rights)).map_err(|error| error.to_string())?;
    // Numbers may be longer than they were written.
    if written.len() > RIGHTS_BYTES_MAX {
        Err(format!("they are longer than {RIGHTS_BYTES_MAX} bytes"))
    } else {
        Ok(written)
    }
}

impl Auth {
    /// Makes a credential in a database with this service's tables, for whoever can reach it: the first one of a
    /// deployment.
    ///
    /// # Errors
    /// What is asked for breaks a rule, or the database does not do it.
    pub async fn bootstrap(
        database: &Database,
        request: &CreateCredentialRequest,
    ) -> Result<NewCredential, CredentialError> {
        let at = to_micros(now());
        let (credential, secret) = drafted(request, at, "bootstrap".to_owned())?;
        let client_id = credential.client_id.hyphenated().to_string();
        let entry = Entry {
            at,
            event: "create_credential",
            actor: "bootstrap".to_owned(),
            subject: client_id.clone(),
            origin: "database".to_owned(),
            outcome: "ok",
            detail: told(&credential),
        };
        Store::new(database.clone()).add_credential(&credential, &entry).await?;
        Ok(NewCredential { client_id, secret })
    }

    pub(super) async fn create_credential(
        &self,
        caller: &Caller,
        request: CreateCredentialRequest,
    ) -> Result<CreateCredentialResponse, Status> {
        self.allow(caller, ADMIN, "create_credential").await?;
        let drafted = drafted(&request, self.now(), caller.to_string());
        let (credential, secret) = drafted.map_err(|error| error.status())?;
        let message: Credential = credential.message();
        let entry = Entry {
            detail: told(&credential),
            ..self.entry(caller, "create_credential", message.client_id.clone(), "ok")
        };
        self.shared.store.add_credential(&credential, &entry).await?;
        tell(&entry);
        Ok(CreateCredentialResponse { credential: Some(message), secret })
    }

    pub(super) async fn issue_token(
        &self,
        caller: &Caller,
        request: IssueTokenRequest,
    ) -> Result<IssueTokenResponse, Status> {
        let attempt = self.attempt(caller, None, unknown(&request.client_id)).await?;
        let token = match self.token(caller, &request).await {
            Ok(token) => token,
            Err(status) if status.code() == Code::Unauthenticated => {
                self.note(self.entry(caller, "issue_token", credential_of(&request.client_id), "wrong")).await;
                return Err(status);
            }
            Err(status) => {
                self.shared.throttle.does_not_count(attempt);
                return Err(status);
            }
        };
        self.shared.throttle.went_well(attempt);
        self.note(self.entry(caller, "issue_token", credential_of(&request.client_id), "ok")).await;
        Ok(IssueTokenResponse { access_token: token.text, expires_at: Some(timestamp(token.expires_at)) })
    }

    async fn token(&self, caller: &Caller, request: &IssueTokenRequest) -> Result<Token, Status> {
        let wrong = || {
            Status::unauthenticated(
                "the client id or the secret is wrong; a credential for a certificate wants no secret, and that certificate \
                 to be shown by gRPC",
            )
        };
        let client_id = request.client_id.as_str();
        let secret = Secret::parse(&request.secret);
        if client_id == ADMIN_CLIENT {
            let kept = self.shared.config.admin_secret_hash.as_ref();
            let is_admin = kept.zip(secret).is_some_and(|(kept, secret)| secret.is(kept));
            let subject = ADMIN_SUBJECT.parse().map_err(|_| wrong())?;
            if !is_admin {
                return Err(wrong());
            }
            let scopes = ADMIN_SCOPES.map(str::to_owned).into();
            return self.shared.issuer.sign(subject, ADMIN_CLIENT.to_owned(), None, scopes, &RightsClaim::default());
        }
        let client_id = Uuid::try_parse(client_id).map_err(|_| wrong())?;
        let credential = self.shared.store.credential(client_id).await?;
        let is_proven = |proof: &Proof| match proof {
            Proof::Secret(hash) => secret.as_ref().is_some_and(|secret| secret.is(hash)),
            Proof::Certificate(name) => {
                request.secret.is_empty() && shows(caller, name, self.now().unsigned_abs() / 1_000_000)
            }
        };
        let credential = credential.filter(|credential| is_proven(&credential.proof)).ok_or_else(wrong)?;
        let unreadable = |_| Status::internal("a credential cannot be read");
        let subject: Subject =
            credential.subject.parse().map_err(|_| Status::internal("a credential cannot be read"))?;
        let rights: RightsClaim = serde_json::from_str(&credential.rights).map_err(unreadable)?;
        let scopes = credential.scopes.split_ascii_whitespace().map(str::to_owned).collect();
        self.shared.issuer.sign(subject, client_id.hyphenated().to_string(), None, scopes, &rights)
    }

    pub(super) async fn revoke_credential(
        &self,
        caller: &Caller,
        request: RevokeCredentialRequest,
    ) -> Result<RevokeCredentialResponse, Status> {
        self.allow(caller, ADMIN, "revoke_credential").await?;
        let not_found = || Status::not_found("there is no such credential");
        let client_id = Uuid::try_parse(&request.client_id).map_err(|_| not_found())?;
        let entry = self.entry(caller, "revoke_credential", client_id.hyphenated().to_string(), "ok");
        let ending = self.shared.issuer.ending("revoke_credential");
        if !self.shared.store.revoke_credential(client_id, &ending, &entry).await? {
            return Err(not_found());
        }
        tell(&entry);
        self.revoked().await;
        Ok(RevokeCredentialResponse {})
    }

    pub(super) async fn list_credentials(
        &self,
        caller: &Caller,
        request: ListCredentialsRequest,
    ) -> Result<ListCredentialsResponse, Status> {
        self.allow(caller, ADMIN, "list_credentials").await?;
        let rows_max = rows_max(request.page_size)?;
        let after = page_key(LIST, &request.page_token)?.unwrap_or_default();
        let mut rows = self.shared.store.credentials(after, rows_max + 1).await?;
        let next_page_token = next_page(LIST, &mut rows, rows_max, |credential| credential.client_id);
        let credentials = rows.iter().map(StoredCredential::message).collect();
        Ok(ListCredentialsResponse { credentials, next_page_token })
    }
}
