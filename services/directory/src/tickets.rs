//! The keys that sign tickets: kept in a table that all replicas share, replaced from time to time.
//!
//! A new key is shown to all for a while before it signs, and an old one until the last ticket that it signed is worth
//! nothing any more, so that no verifier meets a key that it has had no time to hear of.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use thiserror::Error;
use zonecast_access::{Keys, SigningError, SigningKey, Ticket};
use zonecast_store::{StoreError, new_id};

use crate::{DirectoryStep, DirectoryStore, StoredKey};

/// Beyond the tickets' own time: for clocks that differ, and answers on their way.
const MARGIN: Duration = Duration::from_secs(120);

/// How keys follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTimes {
    /// How long a key signs.
    pub period: Duration,
    /// How long it is known to all before that.
    pub notice: Duration,
    /// How long a ticket lasts.
    pub ticket: Duration,
}

/// Why there is no key to sign with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key that was kept is none, or none can be made.
    #[error("the keys of tickets cannot be used: {0}")]
    Signing(#[from] SigningError),
}

impl KeyError {
    /// The variant's name, for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Store(error) => error.kind(),
            Self::Signing(_) => "signing",
        }
    }
}

/// The keys of tickets, as this process knows them.
#[derive(Debug)]
pub struct TicketKeys {
    times: KeyTimes,
    known: RwLock<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    signing: SigningKey,
    jwks: String,
}

impl TicketKeys {
    /// Reads the keys, and makes the first where there is none.
    ///
    /// # Errors
    /// The database does not answer, or a key is none.
    pub async fn open(store: &impl DirectoryStore, times: KeyTimes) -> Result<Self, KeyError> {
        let known = known(store, times).await?;
        Ok(Self { times, known: RwLock::new(known) })
    }

    /// Reads the keys again, and replaces those whose time is over.
    ///
    /// # Errors
    /// The database does not answer, or a key is none; those that were known stay.
    pub async fn refresh(&self, store: &impl DirectoryStore) -> Result<(), KeyError> {
        let known = known(store, self.times).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The public keys, as a JWKS.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.known().jwks
    }

    /// How long a ticket lasts.
    #[must_use]
    pub fn ticket_lifetime(&self) -> Duration {
        self.times.ticket
    }

    /// Signs a ticket.
    ///
    /// # Errors
    /// It cannot be written: a coordinate is not finite.
    pub fn sign(&self, ticket: &Ticket) -> Result<String, SigningError> {
        ticket.sign(&self.known().signing)
    }
}

async fn known(store: &impl DirectoryStore, times: KeyTimes) -> Result<Known, KeyError> {
    let (head, _) = store.head().await?;
    let mut keys = store.keys().await?;
    if is_due(&keys, head.now, times) {
        replace(store, times).await?;
        keys = store.keys().await?;
    }
    let keys: Vec<(SigningKey, i64)> = keys
        .into_iter()
        .map(|key| Ok((SigningKey::from_pkcs8(key.id, key.pkcs8)?, key.made_at)))
        .collect::<Result<_, SigningError>>()?;
    let jwks = Keys::jwks(keys.iter().map(|(key, _)| (key.id(), key.public())));
    // The newest that all have had time to hear of, or else the oldest there is.
    let is_known_to_all = |(_, made_at): &&(SigningKey, i64)| head.now - made_at >= micros(times.notice);
    let signing = keys.iter().rfind(is_known_to_all).or(keys.first());
    let (signing, _) = signing.ok_or(SigningError::NotAKey)?.clone();
    Ok(Known { signing, jwks })
}

/// Whether a key is to be made or to go.
fn is_due(keys: &[StoredKey], now: i64, times: KeyTimes) -> bool {
    let newest = keys.last().map(|key| key.made_at);
    newest.is_none_or(|made_at| now - made_at >= micros(times.period)) || over(keys, now, times).next().is_some()
}

/// The keys whose last tickets are worth nothing any more: what came behind them has signed for long enough.
fn over(keys: &[StoredKey], now: i64, times: KeyTimes) -> impl Iterator<Item = &StoredKey> {
    let until = micros(times.notice + times.ticket + MARGIN);
    keys.windows(2).filter(move |pair| now - pair[1].made_at >= until).map(|pair| &pair[0])
}

/// With the head held, so that of several replicas one does it.
async fn replace(store: &impl DirectoryStore, times: KeyTimes) -> Result<(), KeyError> {
    let mut step = store.begin().await?;
    let (head, keys) = (step.head(), store.keys().await?);
    if is_due(&keys, head.now, times) {
        for key in over(&keys, head.now, times) {
            step.remove_key(&key.id).await?;
        }
        if keys.last().is_none_or(|newest| head.now - newest.made_at >= micros(times.period)) {
            let key = SigningKey::generate(new_id().simple().to_string())?;
            let stored = StoredKey { id: key.id().to_owned(), pkcs8: key.pkcs8().to_vec(), made_at: head.now };
            step.add_key(&stored).await?;
            tracing::info!(key = stored.id, "a new key for tickets was made");
        }
    }
    step.commit(head, None, &[]).await?;
    Ok(())
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
