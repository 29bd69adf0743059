//! From the settings to the services, and to their end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Release},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};
use zonecast_doors::{
    Entrance, Methods, Peers, RpcMetrics,
    grpc::{GrpcConfig, GrpcDoor, GrpcTls, GrpcTlsError},
};
use zonecast_store::{Database, DatabaseOptions, Migrations};

use crate::{
    Definition, Ground, HostConfig, HostError, Tasks,
    admin::{self, Admin},
    broker_end::{CallsEnd, ChangesEnd},
    changes,
    metrics::{self, Outboxes},
    mounted::Mounted,
};

/// How much of the grace calls may take to end. The rest is for what comes behind them: changes to be published.
const CALLS_SHARE: f64 = 0.75;

/// How far the host is; each phase follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// At work.
    Serving,
    /// The doors close: nothing new.
    Leaving,
    /// Nothing changes any more: what waits is published.
    Publishing,
    /// The line to the broker may go.
    Ended,
}

/// Services at work.
pub struct Host {
    database: Database,
    grpc: GrpcDoor,
    admin: Option<(SocketAddr, JoinHandle<()>)>,
    is_ready: Arc<AtomicBool>,
    phase: watch::Sender<Phase>,
    /// Whether no calls by the broker are under way any more.
    broker_door_is_shut: watch::Receiver<bool>,
    relays: Vec<JoinHandle<()>>,
    tasks: Tasks,
    /// The connections to the broker.
    broker: Vec<JoinHandle<()>>,
    grace: Duration,
    /// By which relays and followers hear of changes.
    _wakers: JoinSet<()>,
}

/// Brings the tables of these services up to date, without serving.
///
/// # Errors
/// The database does not answer, or a step fails.
pub async fn migrate(options: &DatabaseOptions, services: &[Definition]) -> Result<(), HostError> {
    let database = open(options).await?;
    for migrations in tables(services) {
        migrations.apply(&database).await?;
    }
    database.close().await;
    Ok(())
}

async fn open(options: &DatabaseOptions) -> Result<Database, HostError> {
    let failed = |source| HostError::Database { url: options.url.to_string(), source };
    Database::open(options).await.map_err(failed)
}

/// The tables that every service needs, and those of each.
fn tables(services: &[Definition]) -> impl Iterator<Item = Migrations> {
    [zonecast_store::MIGRATIONS].into_iter().chain(services.iter().map(|service| service.migrations))
}

/// Brings them up to date where that is permitted, and refuses them where it is not and they are not.
async fn check_tables(database: &Database, services: &[Definition], may_migrate: bool) -> Result<(), HostError> {
    for migrations in tables(services) {
        if may_migrate {
            migrations.apply(database).await?;
        } else {
            migrations.check(database).await?;
        }
    }
    Ok(())
}

impl Host {
    /// Starts these services.
    ///
    /// # Errors
    /// Whatever would keep it from serving; the broker's absence does not.
    pub async fn start(config: HostConfig, services: &[Definition]) -> Result<Self, HostError> {
        config.database.url.check_replicas(config.replicas)?;
        config.broker.check(config.gatekeeper.is_for_loopback_only())?;
        let database = open(&config.database).await?;
        check_tables(&database, services, config.migrate).await?;
        let (connected, client) = watch::channel(None);
        let (peers, tasks) = (Peers::new(client.clone()), Tasks::default());
        let phase = watch::Sender::new(Phase::Serving);
        let mut ground = Ground::new(database.clone(), config.message_bytes_max, peers.clone(), tasks.clone());
        let (is_shut, broker_door_is_shut) = watch::channel(true);
        if config.broker.calls.is_some() {
            ground.is_cut_off = broker_door_is_shut.clone();
        }
        let mounted = Mounted::new(services, &ground, config.changes_retention, &client, &phase).await?;
        let Mounted { routes, relays, stats, wakers } = mounted;
        let stores = services.iter().map(|service| service.name).collect();
        let routes = changes::mount(database.clone(), stores, config.message_bytes_max, routes);
        // Not the changes: whoever shares the topics of calls with this process may have other stores.
        let by_broker: Vec<&'static str> = services.iter().flat_map(|service| service.services).copied().collect();
        let names = [&by_broker[..], &[changes::SERVICE_NAME]].concat();
        let methods = Methods::of(config.descriptors, &names)?;
        let rpcs = RpcMetrics::default();
        let entrance = Entrance::new(routes.prepare(), methods, config.gatekeeper, rpcs.clone(), config.limits);
        peers.set_within(entrance.clone());

        let is_connected = Arc::new(AtomicBool::new(false));
        let (broker_is_connected, calls_are_shut) = (Arc::clone(&is_connected), broker_door_is_shut.clone());
        let outboxes = Outboxes { relays: stats, followers: ground.followers, broker_is_connected, calls_are_shut };
        let is_ready = Arc::new(AtomicBool::new(false));
        let grpc = GrpcConfig {
            listen: config.grpc.listen,
            tls: config.grpc.tls,
            limits: config.grpc.limits,
            services: &names,
            descriptors: config.descriptors,
        };
        let grpc = GrpcDoor::open(grpc, &entrance).await?;
        let admin = match config.admin_listen {
            None => None,
            Some(address) => {
                let registry = metrics::registry(&rpcs, config.freshness, outboxes);
                let (database, is_ready) = (database.clone(), Arc::clone(&is_ready));
                let admin = Admin { database, registry, is_ready, grpc_has_ended: grpc.ended() };
                Some(admin::start(address, admin).await?)
            }
        };
        let grace = config.shutdown_grace;
        let changes = ChangesEnd { client: config.broker.client, connected, is_connected };
        let panics = tasks.panics();
        let mut broker = vec![tokio::spawn(panics.watching(changes.run(phase.subscribe())))];
        if let Some(client) = config.broker.calls {
            let grace = grace.mul_f64(CALLS_SHARE);
            let calls = CallsEnd { client, entrance, services: by_broker, is_shut, grace };
            broker.push(tokio::spawn(panics.watching(calls.run(phase.subscribe()))));
        }
        grpc.set_serving(true).await;
        is_ready.store(true, Release);
        Ok(Self {
            database,
            grpc,
            admin,
            is_ready,
            phase,
            broker_door_is_shut,
            relays,
            tasks,
            broker,
            grace,
            _wakers: wakers,
        })
    }

    /// The TCP address of the gRPC door.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }

    /// The TCP address of admin HTTP.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(address, _)| *address)
    }

    /// Meets connections by gRPC that come from now on with another certificate; those that are there stay.
    ///
    /// # Errors
    /// It does not serve, and the old one goes on.
    pub fn reload_grpc_tls(&self, tls: &GrpcTls) -> Result<(), GrpcTlsError> {
        self.grpc.reload(tls)
    }

    /// Counts a new certificate that could not even be read, for the metrics.
    pub fn count_tls_reload_failure(&self) {
        self.grpc.count_reload_failure();
    }

    /// Waits until something has failed that must not, which is a defect: a task has panicked, or the gRPC door has closed by
    /// itself. Have the host take leave, and start another.
    pub async fn failed(&self) {
        let mut grpc = self.grpc.ended();
        tokio::select! {
            () = self.tasks.panics().seen() => {}
            _ = grpc.wait_for(|has_ended| *has_ended) => {}
        }
    }

    /// Takes leave: no new calls, those that are under way are answered, changes that wait are published, all within the
    /// grace; what could not be published waits in the outbox for the next start.
    pub async fn shutdown(mut self) {
        let (begun, deadline) = (Instant::now(), Instant::now() + self.grace);
        let calls_until = begun + self.grace.mul_f64(CALLS_SHARE);
        self.is_ready.store(false, Release);
        self.phase.send_replace(Phase::Leaving);
        // Streams that last would hold up the door until its time is over.
        self.tasks.stop();
        let broker_door = timeout_at(calls_until, self.broker_door_is_shut.wait_for(|is_shut| *is_shut));
        let _ = tokio::join!(self.grpc.close(calls_until), broker_door);
        if timeout_at(deadline, self.tasks.end()).await.is_err() {
            tracing::warn!("the services' own work did not end within the grace");
        }
        self.phase.send_replace(Phase::Publishing);
        ended("publishing changes", self.relays, deadline).await;
        self.phase.send_replace(Phase::Ended);
        ended("the connections to the broker", self.broker, deadline).await;
        if timeout_at(deadline, self.database.close()).await.is_err() {
            tracing::warn!("the database's connections did not end within the grace");
        }
        if let Some((_, server)) = self.admin {
            server.abort();
        }
        tracing::info!("services have stopped");
    }
}

/// Waits for tasks until then, and ends them.
async fn ended(what: &str, tasks: Vec<JoinHandle<()>>, deadline: Instant) {
    for mut task in tasks {
        if timeout_at(deadline, &mut task).await.is_err() {
            tracing::warn!(what, "did not end within the grace");
            task.abort();
        }
    }
}
