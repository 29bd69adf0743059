//! Credentials of game servers and backend services.

use zonecast_protocol::auth::v1::Credential;
use zonecast_store::{Uuid, from_micros, outbox::Record, timestamp};

use super::{Ending, Entry, logins::revoked, statements};

/// A credential as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredCredential {
    pub(crate) client_id: Uuid,
    pub(crate) proof: Proof,
    pub(crate) subject: String,
    /// With spaces between.
    pub(crate) scopes: String,
    /// The claim of tokens, JSON.
    pub(crate) rights: String,
    pub(crate) created_at: i64,
    pub(crate) created_by: String,
}

/// By what its bearer is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A secret, of which this is kept.
    Secret(Vec<u8>),
    /// A TLS client certificate for this name.
    Certificate(String),
}

impl Proof {
    /// As it stands in the table: the secret's hash, and the certificate's name.
    fn columns(&self) -> (&[u8], Option<&str>) {
        match self {
            Self::Secret(hash) => (hash, None),
            Self::Certificate(name) => (&[], Some(name)),
        }
    }
}

type Row = (Uuid, Vec<u8>, String, String, String, i64, String, Option<String>);

impl From<Row> for StoredCredential {
    fn from((client_id, secret_hash, subject, scopes, rights, created_at, created_by, name): Row) -> Self {
        let proof = name.map_or(Proof::Secret(secret_hash), Proof::Certificate);
        Self { client_id, proof, subject, scopes, rights, created_at, created_by }
    }
}

impl StoredCredential {
    /// As the protocol has it.
    pub(crate) fn message(&self) -> Credential {
        Credential {
            client_id: self.client_id.hyphenated().to_string(),
            subject: self.subject.clone(),
            scopes: self.scopes.split_ascii_whitespace().map(str::to_owned).collect(),
            rights: self.rights.clone(),
            created_at: Some(timestamp(from_micros(self.created_at))),
            created_by: self.created_by.clone(),
            certificate_name: self.proof.columns().1.unwrap_or_default().to_owned(),
        }
    }
}

statements! {
    with [audit issuing]

    /// Adds a credential.
    change fn add_credential(connection, credential: &StoredCredential, entry: &Entry) -> () {
        let (secret_hash, certificate_name) = credential.proof.columns();
        sqlx::query(
            "insert into auth_credentials \
             (client_id, secret_hash, subject, scopes, rights, created_at, created_by, certificate_name) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(credential.client_id)
        .bind(secret_hash)
        .bind(&credential.subject)
        .bind(&credential.scopes)
        .bind(&credential.rights)
        .bind(credential.created_at)
        .bind(&credential.created_by)
        .bind(certificate_name)
        .execute(&mut *connection)
        .await?;
        audit::note(connection, entry).await
    }

    /// The credential with this id.
    read fn credential(connection, client_id: Uuid) -> Option<StoredCredential> {
        let row: Option<Row> = sqlx::query_as(
            "select client_id, secret_hash, subject, scopes, rights, created_at, created_by, certificate_name \
             from auth_credentials where client_id = $1",
        )
        .bind(client_id)
        .fetch_optional(connection)
        .await?;
        Ok(row.map(StoredCredential::from))
    }

    /// The first credentials behind this one, oldest first.
    read fn credentials(connection, after: Uuid, credentials_max: u32) -> Vec<StoredCredential> {
        let rows: Vec<Row> = sqlx::query_as(
            "select client_id, secret_hash, subject, scopes, rights, created_at, created_by, certificate_name \
             from auth_credentials where client_id > $1 order by client_id limit $2",
        )
        .bind(after)
        .bind(i64::from(credentials_max))
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(StoredCredential::from).collect())
    }

    /// Takes a credential away, and revokes its tokens; false where there is none.
    change fn revoke_credential(connection, client_id: Uuid, ending: &Ending, entry: &Entry) -> bool {
        let subject: Option<String> =
            sqlx::query_scalar("delete from auth_credentials where client_id = $1 returning subject")
                .bind(client_id)
                .fetch_optional(&mut *connection)
                .await?;
        let Some(subject) = subject else { return Ok(false) };
        audit::note(&mut *connection, entry).await?;
        let login = client_id.hyphenated().to_string();
        issuing::revoke(&mut *connection, &login, ending.until).await?;
        connection.record(&revoked(&subject, &[login], ending)).await?;
        Ok(true)
    }
}
