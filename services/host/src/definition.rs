//! What a service is to its host.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use zonecast_doors::Peers;
use zonecast_store::{Database, Migrations};

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
}

/// Work that goes on for as long as the host serves.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Begins some work. It is to end soon after the token that it is given is cancelled.
    pub fn spawn<W>(&self, work: impl FnOnce(CancellationToken) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(work(self.stop.clone()));
    }

    /// Asks all work to end, and waits until it has.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
