//! A broker's process on its host: started, stopped for a while, killed.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::AsyncUdpSocket;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use zonecast_broker::{BrokerConfig, ConnectionLimits, LocalBroker, LocalGround, OutboxLimits};

use super::stage::Stage;
use crate::{
    BrokerNumber,
    network::{Host, LocalRuntime, mixed, seed_bytes},
};

/// The port that all brokers serve on.
const PORT: u16 = 4433;
/// The longest time that a publish may wait to be processed. Shorter than everything has time to finish in.
const PROCESSED_TIMEOUT: Duration = Duration::from_secs(15);
/// Sessions that one life of a broker may number.
const SESSIONS_PER_START: u64 = 1 << 20;

pub(super) struct BrokerHost {
    stage: Weak<Stage>,
    number: u16,
    workers: usize,
    starts: Cell<u64>,
    process: RefCell<Option<Process>>,
    gate: Rc<Gate>,
}

struct Process {
    task: JoinHandle<()>,
}

/// Whether a process may run at the moment.
#[derive(Default)]
struct Gate {
    stopped: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

/// All tasks of a process. While the gate is shut none of them runs, whatever its clocks say.
struct Gated {
    tasks: LocalSet,
    gate: Rc<Gate>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.stopped.get() {
            *self.gate.waiting.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.tasks).poll(cx)
    }
}

impl BrokerHost {
    pub(super) fn new(stage: &Rc<Stage>, number: usize) -> Self {
        Self {
            stage: Rc::downgrade(stage),
            number: u16::try_from(number).unwrap_or(u16::MAX),
            workers: stage.plan.brokers[number],
            starts: Cell::new(0),
            process: RefCell::default(),
            gate: Rc::default(),
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
        self.process.borrow().is_some()
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
            first_session: starts * SESSIONS_PER_START,
        };
        let config = config(&stage, address);
        let tasks = LocalSet::new();
        let on_stage = Rc::clone(&stage);
        tasks.spawn_local(async move {
            match LocalBroker::start(config, ground) {
                Ok(_broker) => std::future::pending().await,
                Err(error) => on_stage.say(|| format!("a broker cannot start: {error}")),
            }
        });
        self.gate.stopped.set(false);
        let task = spawn_local(Gated { tasks, gate: Rc::clone(&self.gate) });
        *self.process.borrow_mut() = Some(Process { task });
        stage.say(|| format!("b{} starts, {} workers", self.number, self.workers));
    }

    /// Ends the process as `kill -9` does: nobody is told.
    pub(super) async fn kill(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let Some(process) = self.process.borrow_mut().take() else { return };
        stage.say(|| format!("b{} is killed", self.number));
        stage.network.cut_off(self.host());
        stage.observe(|observer| observer.broker_killed(BrokerNumber(self.number)));
        process.task.abort();
        // Its tasks are gone when this returns.
        let _ = process.task.await;
    }

    /// Stops the process, as SIGSTOP does.
    pub(super) fn stop(&self) {
        self.gate.stopped.set(true);
    }

    /// Lets the process go on.
    pub(super) fn go_on(&self) {
        self.gate.stopped.set(false);
        if let Some(waiting) = self.gate.waiting.take() {
            waiting.wake();
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
    config.shutdown_grace = Duration::from_secs(1);
    config
}
