//! The service: requests in, answers out, and the directory between.

mod asking;
mod serving;
mod spawning;
mod who;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use zonecast_api::directory::v1::directory_service_server::DirectoryService;
use zonecast_doors::Caller;
use zonecast_host::Ground;
use zonecast_protocol::directory::v1::{
    ClaimRequest, ClaimResponse, CoverageRequest, CoverageResponse, DeregisterRequest, DeregisterResponse,
    GetTicketKeysRequest, GetTicketKeysResponse, HandOverRequest, HandOverResponse, HeartbeatRequest,
    HeartbeatResponse, ListServersRequest, ListServersResponse, LookupRequest, LookupResponse, RegisterRequest,
    RegisterResponse, ReleaseRequest, ReleaseResponse, ReplaceRequest, ReplaceResponse, SnapshotRequest,
    SnapshotResponse, SpawnRequest, SpawnResponse, WatchRequest, WatchResponse,
};

pub(crate) use who::SCOPES;

use crate::{
    Config, DirectoryStore, Index, KeyError, KeyTimes, Ledger, TicketKeys,
    keeper::Keeper,
    watch::{self, Watcher},
};

/// Most coverages that are worked out at once; others wait for as long as their calls may.
const COVERING_MAX: usize = 2;
/// Answers that wait for who watches.
const ANSWERS_MAX: usize = 4;

/// The directory service over a store.
pub struct Directory<S> {
    store: S,
    ledger: Ledger<S>,
    index: Arc<Index>,
    keys: Arc<TicketKeys>,
    ground: Ground,
    config: Config,
    watchers: Arc<Semaphore>,
    /// Of those who work out a coverage, which nobody can stop.
    covering: Arc<Semaphore>,
}

impl<S: DirectoryStore> Directory<S> {
    /// The service, its memory as of now.
    ///
    /// # Errors
    /// The database does not answer, or the keys of tickets cannot be used.
    pub async fn open(store: S, ground: Ground, config: Config) -> Result<Self, KeyError> {
        let ledger = Ledger::new(store.clone(), config.lease, config.changes_retention, config.zones_per_server_max);
        let index = Arc::new(Index::default());
        index.refresh(&store).await?;
        let times = KeyTimes {
            period: config.ticket_key_period,
            notice: config.ticket_key_notice,
            ticket: config.ticket_lifetime,
        };
        let keys = Arc::new(TicketKeys::open(&store, times).await?);
        let watchers = Arc::new(Semaphore::new(config.watchers_max));
        let covering = Arc::new(Semaphore::new(COVERING_MAX));
        Ok(Self { store, ledger, index, keys, ground, config, watchers, covering })
    }

    /// Begins what goes on beside calls, for as long as the host serves.
    pub fn keep(&self) {
        let keeper = Keeper {
            store: self.store.clone(),
            ledger: self.ledger.clone(),
            index: Arc::clone(&self.index),
            keys: Arc::clone(&self.keys),
            changed: Arc::clone(&self.ground.changed),
            is_cut_off: self.ground.is_cut_off.clone(),
            poll: self.config.poll,
        };
        self.ground.tasks.spawn(|stop| keeper.run(stop));
    }

    /// The keys of tickets.
    #[must_use]
    pub fn ticket_keys(&self) -> &Arc<TicketKeys> {
        &self.keys
    }

    /// The directory in memory.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// After a change by this process: it is published, and seen by whoever asks here.
    async fn changed(&self) -> Result<(), Status> {
        self.ground.changed.notify_one();
        Ok(self.index.refresh(&self.store).await?)
    }

    async fn begin_watching(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<ReceiverStream<Result<WatchResponse, Status>>, Status> {
        who::check_reader(Caller::of(&request)?)?;
        let revision = request.into_inner().from_revision;
        let place = Arc::clone(&self.watchers).try_acquire_owned();
        let place = place.map_err(|_| Status::resource_exhausted("too many watch at once; try again, or elsewhere"))?;
        watch::check(&self.store, revision).await?;
        let (told, stream) = mpsc::channel(ANSWERS_MAX);
        let (store, index, bytes_max) = (self.store.clone(), Arc::clone(&self.index), self.page_bytes_max());
        let watcher = Watcher { store, index, revision, seen: 0, bytes_max, told, _place: place };
        self.ground.tasks.spawn(|stop| watcher.run(stop));
        Ok(ReceiverStream::new(stream))
    }

    /// How much of a list goes into one answer.
    fn page_bytes_max(&self) -> usize {
        self.ground.message_bytes_max / 2
    }
}

#[tonic::async_trait]
impl<S: DirectoryStore> DirectoryService for Directory<S> {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterResponse>, Status> {
        self.register_server(request).await.map(Response::new)
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        self.renew_lease(request).await.map(Response::new)
    }

    async fn deregister(&self, request: Request<DeregisterRequest>) -> Result<Response<DeregisterResponse>, Status> {
        self.end_lease(request).await.map(Response::new)
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimResponse>, Status> {
        self.claim_zones(request).await.map(Response::new)
    }

    async fn replace(&self, request: Request<ReplaceRequest>) -> Result<Response<ReplaceResponse>, Status> {
        self.replace_zones(request).await.map(Response::new)
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Result<Response<HandOverResponse>, Status> {
        self.hand_over_zones(request).await.map(Response::new)
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        self.release_zones(request).await.map(Response::new)
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        self.find(&request).map(Response::new)
    }

    async fn spawn(&self, request: Request<SpawnRequest>) -> Result<Response<SpawnResponse>, Status> {
        self.let_in(request).await.map(Response::new)
    }

    async fn get_ticket_keys(
        &self,
        request: Request<GetTicketKeysRequest>,
    ) -> Result<Response<GetTicketKeysResponse>, Status> {
        Caller::of(&request)?;
        let issuer = self.config.ticket_issuer.clone();
        Ok(Response::new(GetTicketKeysResponse { jwks: self.keys.jwks(), issuer }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.begin_watching(request).await.map(Response::new)
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<SnapshotResponse>, Status> {
        self.page_of_zones(&request).map(Response::new)
    }

    async fn coverage(&self, request: Request<CoverageRequest>) -> Result<Response<CoverageResponse>, Status> {
        self.cover(request).await.map(Response::new)
    }

    async fn list_servers(
        &self,
        request: Request<ListServersRequest>,
    ) -> Result<Response<ListServersResponse>, Status> {
        self.page_of_servers(&request).await.map(Response::new)
    }
}
