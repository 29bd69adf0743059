//! What a service is to its host.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use zonecast_doors::Peers;
use zonecast_store::{
    Database, Migrations,
    outbox::{Follower, FollowerStats, Handler, Pace},
};

use crate::panics::Panics;

/// A service, as it is named in the list of all services.
#[derive(Clone)]
pub struct Definition {
    /// What people call it: `users`. The name of its store too.
    pub name: &'static str,
    /// The full names of its gRPC services: `zonecast.users.v1.UsersService`.
    pub services: &'static [&'static str],
    /// Every scope that its methods ask for.
    pub scopes: &'static [&'static str],
    /// Its tables.
    pub migrations: Migrations,
    /// Puts it behind the doors; see [`mount`].
    pub mount: Mount,
}

/// How a service comes behind the doors.
pub type Mount = Arc<dyn Fn(Ground, Routes) -> Mounting + Send + Sync>;

/// The routes with the service among them, once it is ready to serve.
pub type Mounting = Pin<Box<dyn Future<Output = Result<Routes, MountError>> + Send>>;

/// Why a service cannot serve, in words for whoever starts it.
pub type MountError = Box<dyn std::error::Error + Send + Sync>;

/// Makes a [`Mount`] of a function, which may wait, for example for its keys to be read.
pub fn mount<F, W>(put: F) -> Mount
where
    F: Fn(Ground, Routes) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Routes, MountError>> + Send + 'static,
{
    Arc::new(move |ground, routes| Box::pin(put(ground, routes)))
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Definition({})", self.name)
    }
}

/// What a service stands on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The database, with the service's tables.
    pub database: Database,
    /// To be notified after a commit that recorded a change, so that it is published at once.
    pub changed: Arc<Notify>,
    /// Longest message that is read or written, in bytes.
    pub message_bytes_max: usize,
    /// The other services, for clients that tonic generated.
    pub peers: Peers,
    /// What the service does beside answering calls.
    pub tasks: Tasks,
    /// Who follows the changes of which store.
    pub followers: Followers,
    /// Whether calls by the broker cannot come at present, though they should: of whom nothing is heard may be there.
    pub is_cut_off: watch::Receiver<bool>,
}

impl Ground {
    /// A ground on which nobody follows anything yet, and that is never cut off.
    #[must_use]
    pub fn new(database: Database, message_bytes_max: usize, peers: Peers, tasks: Tasks) -> Self {
        Self {
            database,
            changed: Arc::default(),
            message_bytes_max,
            peers,
            tasks,
            followers: Followers::default(),
            is_cut_off: watch::channel(false).1,
        }
    }

    /// Follows the changes of another service's store, on behalf of this service (by its name), for as long as the host
    /// serves.
    pub fn follow<H: Handler>(&self, consumer: &'static str, store: &'static str, handler: H) {
        let (database, changed) = (self.database.clone(), Arc::clone(&self.changed));
        let follower = Follower::new(database, consumer, store, handler, changed, Pace::default());
        self.followers.add(Following { consumer, store, stats: follower.stats(), wake: follower.wake() });
        self.tasks.spawn(|stop| follower.run(async move { stop.cancelled().await }));
    }
}

/// Those that follow the changes of other stores. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Followers(Arc<Mutex<Vec<Following>>>);

/// One that follows.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    pub(crate) consumer: &'static str,
    pub(crate) store: &'static str,
    pub(crate) stats: Arc<FollowerStats>,
    wake: Arc<Notify>,
}

impl Followers {
    /// Of these consumers and stores, who have done nothing yet.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&'static str, &'static str)]) -> Self {
        let following = |&(consumer, store)| Following { consumer, store, stats: Arc::default(), wake: Arc::default() };
        Self(Arc::new(Mutex::new(pairs.iter().map(following).collect())))
    }

    fn add(&self, following: Following) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(following);
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Following> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells those of a store that it has changed.
    pub(crate) fn wake(&self, store: &str) {
        self.all()
            .iter()
            .filter(|following| following.store == store)
            .for_each(|following| following.wake.notify_one());
    }
}

/// Work that goes on for as long as the host serves.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    panics: Panics,
}

impl Tasks {
    /// Begins some work. It is to end soon after the token that it is given is cancelled.
    pub fn spawn<W>(&self, work: impl FnOnce(CancellationToken) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(self.panics.watching(work(self.stop.clone())));
    }

    /// Whether any of it has panicked, and what else counts so.
    pub(crate) fn panics(&self) -> &Panics {
        &self.panics
    }

    /// Asks all work to end.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Asks all work to end, and waits until it has.
    pub async fn end(&self) {
        self.stop();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_wakes_those_who_follow_its_store_and_no_others() {
        let followers = Followers::default();
        let following = |store| Following { consumer: "auth", store, stats: Arc::default(), wake: Arc::default() };
        let (users, again, other) = (following("users"), following("users"), following("directory"));
        for following in [&users, &again, &other] {
            followers.add(following.clone());
        }
        followers.wake("users");
        for woken in [users, again] {
            tokio::time::timeout(Duration::from_secs(60), woken.wake.notified()).await.unwrap();
        }
        let is_woken = tokio::time::timeout(Duration::from_millis(10), other.wake.notified()).await;
        assert!(is_woken.is_err());
    }
}
