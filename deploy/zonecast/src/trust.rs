//! Whose tokens are believed: kept up to date from a file, or from the issuer itself.
//!
//! Nothing here fails open. Before the first keys are there nobody is admitted; when they cannot be read again, those that
//! were read last count, and so do the revocations: no token lasts longer than it says by that.

mod authority;

use std::{
    convert::Infallible,
    future::pending,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, task::JoinHandle, time::sleep};
use zonecast_access::{BadKeys, Keys, Revocations, Trust};
use zonecast_broker::TrustUpkeep;

pub(crate) use authority::Authority;

/// Whose tokens are believed, checked.
#[derive(Debug)]
pub(crate) struct TokenSettings {
    /// The issuer's name.
    pub(crate) issuer: String,
    /// For whom tokens must be.
    pub(crate) audience: String,
    /// Where the keys come from.
    pub(crate) source: KeySource,
}

/// Where the keys come from.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// A JWKS on disk, with what was in it when the settings were checked.
    File { path: PathBuf, keys: Keys, look_every: Duration },
    /// The issuer, which has the revocations too.
    Authority(Authority),
}

/// Keeps what is believed up to date, for whoever follows it.
#[derive(Debug)]
pub(crate) struct TrustKeeper {
    trust: watch::Sender<Arc<Trust>>,
    upkeep: Arc<TrustUpkeep>,
    source: KeySource,
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl TrustKeeper {
    /// Begins with the keys that are here.
    pub(crate) fn new(TokenSettings { issuer, audience, mut source }: TokenSettings) -> Self {
        let upkeep = Arc::<TrustUpkeep>::default();
        let keys = match &mut source {
            KeySource::File { keys, .. } => {
                upkeep.keys_read();
                std::mem::take(keys)
            }
            KeySource::Authority(_) => Keys::default(),
        };
        let trust = Trust { issuer, audience, keys, revoked: Revocations::default() };
        Self { trust: watch::Sender::new(Arc::new(trust)), upkeep, source }
    }

    /// What is believed, to be followed.
    pub(crate) fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// What is to be told of unknown keys, and knows when keys were read.
    pub(crate) fn upkeep(&self) -> Arc<TrustUpkeep> {
        Arc::clone(&self.upkeep)
    }

    /// Keeps it up to date for as long as the process lives.
    pub(crate) fn start(self) -> Keeping {
        Keeping(tokio::spawn(self.keep()))
    }

    /// Keeps it up to date as long as it is polled.
    async fn keep(self) -> Infallible {
        match &self.source {
            KeySource::File { path, look_every, .. } => self.follow_file(path.clone(), *look_every).await,
            KeySource::Authority(authority) => {
                // Before that a key would let in again whoever was sent away.
                authority.revocations_once(&self).await;
                tokio::join!(authority.follow_keys(&self), authority.follow_revocations(&self)).0
            }
        }
    }

    /// Looks at the file again and again, and, at most once a second, when a key is asked for that is not in it.
    async fn follow_file(&self, path: PathBuf, look_every: Duration) -> Infallible {
        let mut told = Told::default();
        let mut seen = None;
        loop {
            let read = std::fs::read_to_string(&path).map_err(FileFault::Unreadable);
            let keys = read.and_then(|text| {
                let is_new = seen.as_ref() != Some(&text);
                let keys = is_new.then(|| Keys::from_jwks(&text)).transpose().map_err(FileFault::NoKeys)?;
                // Not of what is no keys: that would count as well at the next look.
                self.upkeep.keys_read();
                seen = Some(text);
                Ok(keys)
            });
            told.tell(keys.as_ref().err(), "tokens.keys_file is not usable; the keys before go on to count");
            if let Ok(Some(keys)) = keys {
                self.take_keys(keys);
            }
            self.rest(look_every).await;
        }
    }

    fn take_keys(&self, keys: Keys) {
        tracing::info!(?keys, "the keys for tokens are read");
        self.trust.send_modify(|trust| *trust = Arc::new(Trust { keys, ..(**trust).clone() }));
    }

    fn take_revocations(&self, revoked: Revocations) {
        let is_new = self.trust.borrow().revoked != revoked;
        if is_new {
            tracing::info!(logins = revoked.logins.len(), "other logins are revoked");
            self.trust.send_modify(|trust| *trust = Arc::new(Trust { revoked, ..(**trust).clone() }));
        }
    }

    /// Waits so long, or, after a second, for a token with a key that is not known.
    async fn rest(&self, longest: Duration) {
        const SHORTEST: Duration = Duration::from_secs(1);
        sleep(SHORTEST.min(longest)).await;
        tokio::select! {
            () = sleep(longest.saturating_sub(SHORTEST)) => {}
            () = self.upkeep.unknown_key_seen() => {}
        }
    }
}

/// A keeper at work.
#[derive(Debug)]
pub(crate) struct Keeping(JoinHandle<Infallible>);

/// What the log says where that is why a process ends.
pub(crate) const FAILED: &str = "keys and revocations are kept up to date no more";

/// Waits until a keeper has failed, which is a defect, and nothing to go on with: what is revoked would go on to be believed.
/// Without one for ever.
pub(crate) async fn failed(keeping: &mut Option<Keeping>) {
    match keeping {
        // It ends by a panic alone.
        Some(Keeping(task)) => drop(task.await),
        None => pending().await,
    }
}

/// Why the file gives no keys.
#[derive(Debug, thiserror::Error)]
enum FileFault {
    #[error("{0}")]
    Unreadable(std::io::Error),
    #[error("{0}")]
    NoKeys(BadKeys),
}

/// Tells when something begins to fail and when it does so no longer, and nothing in between.
#[derive(Debug, Default)]
struct Told(bool);

impl Told {
    fn tell(&mut self, failure: Option<&impl std::fmt::Display>, what: &'static str) {
        match failure {
            Some(error) if !self.0 => tracing::error!(%error, "{what}"),
            None if self.0 => tracing::info!("usable again: {what}"),
            _ => {}
        }
        self.0 = failure.is_some();
    }
}

#[cfg(test)]
mod tests;
