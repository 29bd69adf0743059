//! A client's host: one process after the other, each a new run of the client.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
};

use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, spawn_local},
};
use zonecast_client::{Client, ClientConfig, ConnectionState, TransportOptions, ZoneControl, ZoneSpec};

use super::{application, broker_host::BrokerHost, identity::SERVER_NAME, stage::Stage};
use crate::{
    Ear, Run,
    network::{ClientGround, Host, endpoint_config, mixed},
    plan::ClientPlan,
};

/// Hosts of clients are numbered from here.
const FIRST_HOST: u16 = 100;
/// More clients than there are.
const CLIENTS_MAX: u16 = 16;
/// The port that a client's first socket has.
const FIRST_PORT: u16 = 20_000;

pub(super) struct ClientHost {
    stage: Weak<Stage>,
    number: u16,
    incarnations: Cell<u16>,
    /// Ports used so far; none is used twice.
    ports: Cell<u16>,
    process: RefCell<Option<Process>>,
    /// Processes that live on although a newer one was started.
    former: RefCell<Vec<(Process, Option<Present>)>>,
    /// Whether the application reads its subscriptions.
    reads: Cell<bool>,
    reads_again: Notify,
    /// Set while the client is there and has its zones.
    pub(super) present: RefCell<Option<Present>>,
}

struct Process {
    run: Run,
    host: Host,
    ground: Arc<ClientGround>,
    application: JoinHandle<()>,
    /// Kept so that the socket lives as long as the process.
    _endpoint: quinn::Endpoint,
}

/// A client that is up and running.
#[derive(Clone)]
pub(super) struct Present {
    pub(super) client: Client,
    pub(super) run: Run,
    pub(super) zones: ZoneControl,
    /// The zones' subscription.
    pub(super) ear: Ear,
    /// Where zones are announced that were handed over.
    pub(super) received: Rc<RefCell<Option<mpsc::UnboundedSender<ZoneSpec>>>>,
}

impl ClientHost {
    pub(super) fn new(stage: &Rc<Stage>, number: usize) -> Self {
        Self {
            stage: Rc::downgrade(stage),
            number: u16::try_from(number).unwrap_or(u16::MAX),
            incarnations: Cell::new(0),
            ports: Cell::new(FIRST_PORT),
            process: RefCell::default(),
            former: RefCell::default(),
            reads: Cell::new(true),
            reads_again: Notify::new(),
            present: RefCell::default(),
        }
    }

    /// Where the latest process is: each has a host of its own.
    pub(super) fn host(&self) -> Host {
        Host(FIRST_HOST + self.number + CLIENTS_MAX * self.incarnations.get())
    }

    pub(super) fn client_id(number: u16) -> String {
        format!("client-{number}")
    }

    fn next_address(&self) -> SocketAddr {
        self.ports.set(self.ports.get() + 1);
        let site = u8::try_from(self.number).unwrap_or(u8::MAX);
        SocketAddr::from((Ipv4Addr::new(10, 1, site, 1), self.ports.get()))
    }

    /// Freezes the application's readers, or lets them go on.
    pub(super) fn set_reads(&self, reads: bool) {
        self.reads.set(reads);
        self.reads_again.notify_waiters();
    }

    /// Waits while the application is frozen.
    pub(super) async fn may_read(&self) {
        while !self.reads.get() {
            self.reads_again.notified().await;
        }
    }

    /// Whether there is a process.
    pub(super) fn is_running(&self) -> bool {
        self.process.borrow().is_some()
    }

    /// Starts a process: the next run of the client.
    pub(super) fn start(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        self.incarnations.set(self.incarnations.get() + 1);
        let run = Run { client: self.number, incarnation: self.incarnations.get() };
        let ground = Arc::new(ClientGround::default());
        let socket = stage.network.bind(self.host(), self.next_address());
        let seed = mixed(stage.plan.seed, u64::from(self.number) << 16 | u64::from(run.incarnation) << 40);
        let config = endpoint_config(seed, seed);
        let made = quinn::Endpoint::new_with_abstract_socket(config, None, socket, Arc::clone(&ground) as _);
        let endpoint = match made {
            Ok(endpoint) => endpoint,
            Err(error) => return stage.say(|| format!("{run} has no endpoint: {error}")),
        };
        stage.say(|| format!("{run} starts"));
        stage.observe(|observer| observer.started(run));
        let config = self.config(&stage, run, seed, endpoint.clone());
        let life =
            application::live(Rc::clone(&stage), stage.plan.clients[usize::from(self.number)].clone(), config, run);
        let process = Process { run, host: self.host(), ground, application: spawn_local(life), _endpoint: endpoint };
        *self.process.borrow_mut() = Some(process);
    }

    fn config(&self, stage: &Stage, run: Run, seed: u64, endpoint: quinn::Endpoint) -> ClientConfig {
        let plan: &ClientPlan = &stage.plan.clients[usize::from(self.number)];
        let mut transport = TransportOptions::default();
        transport.idle_timeout = stage.plan.idle_timeout;
        transport.keep_alive = stage.plan.idle_timeout / 3;
        let mut config = ClientConfig::new(Self::client_id(self.number))
            .server_name(SERVER_NAME)
            .tls(stage.identity.client.clone())
            .incarnation(run.incarnation.into())
            .seed(seed)
            .resume_window(stage.plan.resume_window)
            .endpoint(endpoint);
        for broker in &plan.brokers {
            config = config.address(BrokerHost::address_of(*broker).to_string());
        }
        if stage.plan.short_queues {
            transport.stream_receive_window_bytes = 16 << 10;
            transport.receive_window_bytes = 32 << 10;
            config = config.delivery_queue_items_max(8);
        }
        config.transport(transport)
    }

    /// Ends the process as `kill -9` does.
    pub(super) fn kill(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let Some(process) = self.process.borrow_mut().take() else { return };
        stage.say(|| format!("{} is killed", process.run));
        self.end(&stage, &process);
    }

    /// Lets the client take its leave, then ends the process.
    pub(super) async fn leave(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let Some(process) = self.process.borrow_mut().take() else { return };
        stage.say(|| format!("{} leaves", process.run));
        stage.observe(|observer| observer.ended(process.run));
        let present = self.present.borrow().clone();
        if let Some(present) = present {
            let closed = present.client.close().await;
            stage.say(|| format!("{} has left: {closed:?}", process.run));
        }
        self.end(&stage, &process);
    }

    fn end(&self, stage: &Stage, process: &Process) {
        stage.network.cut_off(process.host);
        stage.observe(|observer| observer.ended(process.run));
        process.application.abort();
        process.ground.kill();
        *self.present.borrow_mut() = None;
    }

    /// Starts another process of the client while the one before lives on, as when it is taken for dead.
    pub(super) fn start_twin(&self) {
        let Some(stage) = self.stage.upgrade() else { return };
        let Some(process) = self.process.borrow_mut().take() else { return };
        stage.say(|| format!("{} gets a twin", process.run));
        stage.observe(|observer| observer.ended(process.run));
        self.former.borrow_mut().push((process, self.present.take()));
        self.start();
    }

    /// The runs that should have been told of a newer one, and were not.
    pub(super) fn untold(&self) -> Vec<Run> {
        let is_untold =
            |present: &&Present| !matches!(present.client.states().current(), ConnectionState::Closed { .. });
        let former = self.former.borrow();
        former.iter().filter_map(|(_, present)| present.as_ref()).filter(is_untold).map(|former| former.run).collect()
    }

    /// Gives the client another address.
    pub(super) fn rebind(&self) {
        if let Some(stage) = self.stage.upgrade() {
            stage.network.rebind(self.host(), self.next_address());
        }
    }
}
