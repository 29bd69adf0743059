//! A broker's process on its host: started, stopped for a while, killed.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use quinn::AsyncUdpSocket;
use tokio::time::timeout;
use zonecast_broker::{BrokerConfig, ConnectionLimits, LocalBroker, LocalGround, OutboxLimits};

use super::{
    process::{Hesitation, Process},
    stage::Stage,
};
use crate::{
    BrokerNumber,
    network::{Host, LocalRuntime, mixed, seed_bytes},
};

/// The port that all brokers serve on.
const PORT: u16 = 4433;
/// The longest time that a publish may wait to be processed. Shorter than everything has time to finish in.
const PROCESSED_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a broker that shuts down may take.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// From among so many places each life of a broker begins to number its sessions, as the product does.
const FIRST_SESSIONS: u64 = 0x0fff_ffff;

pub(super) struct BrokerHost {
    stage: Weak<Stage>,
    number: u16,
    workers: usize,
    starts: Cell<u64>,
    running: RefCell<Option<Running>>,
}

struct Running {
    broker: LocalBroker,
    process: Process,
}

impl BrokerHost {
    pub(super) fn new(stage: &Rc<Stage>, number: usize) -> Self {
        Self {
            stage: Rc::downgrade(stage),
            number: u16::try_from(number).unwrap_or(u16::MAX),
            workers: stage.plan.brokers[number],
            starts: Cell::new(0),
            running: RefCell::default(),
        }
    }

    pub(super) fn host(&self) -> Host {
        Host(self.number)
    }

    pub(super) fn address_of(number: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(10, 0, 0, u8::try_from(number + 1).unwrap_or(u8::MAX)), PORT))
    }

    /// The broker at an address.
    pub(super) fn at(address: SocketAddr) -> Option<BrokerNumber> {
        match address {
            SocketAddr::V4(v4) if v4.port() == PORT => Some(BrokerNumber(u16::from(v4.ip().octets()[3]) - 1)),
            _ => None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// Starts the process, with the keys that it always had.
    pub(super) fn start(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let starts = self.starts.get() + 1;
        self.starts.set(starts);
        let address = Self::address_of(self.number);
        let bind = |_| -> Arc<dyn AsyncUdpSocket> { stage.network.bind(self.host(), address) };
        let seed = mixed(stage.plan.seed, u64::from(self.number) << 32 | starts);
        let ground = LocalGround {
            sockets: (0..self.workers).map(bind).collect(),
            runtime: Arc::new(LocalRuntime),
            rng_seed: seed_bytes(seed),
            first_session: (mixed(seed, 1) & FIRST_SESSIONS) << 20,
        };
        let (broker, workers) = match LocalBroker::new(config(&stage, address), ground) {
            Ok(made) => made,
            Err(error) => return stage.say(|| format!("b{} cannot start: {error}", self.number)),
        };
        let threads = (0..).zip(workers).map(|(index, worker)| {
            let hesitation =
                Hesitation { random: fastrand::Rng::with_seed(mixed(seed, index)), share: stage.plan.hesitation };
            let main = async move { drop(worker.run().await) };
            (main, hesitation)
        });
        *self.running.borrow_mut() = Some(Running { broker, process: Process::start(threads) });
        stage.say(|| format!("b{} starts, {} workers", self.number, self.workers));
    }

    /// Ends the process as `kill -9` does: nobody is told.
    pub(super) async fn kill(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let Some(running) = self.running.take() else { return };
        stage.say(|| format!("b{} is killed", self.number));
        stage.network.cut_off(self.host());
        stage.observe(|observer| observer.broker_killed(BrokerNumber(self.number)));
        running.process.kill().await;
    }

    /// Ends the process as SIGTERM does: clients are told, and what waits for them is sent, within a time.
    pub(super) async fn shut_down(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let Some(mut running) = self.running.take() else { return };
        stage.say(|| format!("b{} is shutting down", self.number));
        stage.observe(|observer| observer.broker_stopping(BrokerNumber(self.number)));
        running.broker.drain();
        let in_time = timeout(SHUTDOWN_GRACE, running.process.ended()).await.is_ok();
        stage.say(|| format!("b{} has shut down{}", self.number, if in_time { "" } else { ", not all was done" }));
        stage.network.cut_off(self.host());
        running.process.kill().await;
    }

    /// Stops the process, as SIGSTOP does.
    pub(super) fn stop(&self) {
        if let Some(running) = &*self.running.borrow() {
            running.process.stop();
        }
    }

    /// Lets the process go on.
    pub(super) fn go_on(&self) {
        if let Some(running) = &*self.running.borrow() {
            running.process.go_on();
        }
    }
}

fn config(stage: &Stage, address: SocketAddr) -> BrokerConfig {
    let plan = &stage.plan;
    let mut config = BrokerConfig::new(address, stage.identity.broker.clone());
    config.connections = ConnectionLimits {
        idle_timeout: plan.idle_timeout,
        slow_consumer_timeout: plan.slow_consumer_timeout,
        ..ConnectionLimits::default()
    };
    if plan.short_queues {
        config.outbox =
            OutboxLimits { deliveries_max: 400, bytes_max: 1 << 20, deliveries_soft: 40, bytes_soft: 100 << 10 };
    }
    config.sessions.processed_timeout = PROCESSED_TIMEOUT;
    config
}
