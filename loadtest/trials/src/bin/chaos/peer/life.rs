//! One client from its start to the end of the process.

use std::{cell::Cell, cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{task::spawn_local, time::sleep};
use zonecast_client::{
    Client, ClientConfig, ConnectionState, ConnectionStates, TransportOptions, Zone, ZoneControl, ZoneSpec,
};
use zonecast_trials::{BrokerNumber, Ear, Run, Want};

use super::{Desk, publishing, reading::Reader};
use crate::{
    journal::What,
    script::{ClientScript, FIELD, PROBE, SERVER_NAME, WORLD},
};

/// The pause between two attempts to connect for the first time.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// After so much silence a connection is lost.
const IDLE_TIMEOUT: Duration = Duration::from_millis(2_500);
/// After so much silence something is said.
const KEEP_ALIVE: Duration = Duration::from_millis(800);

/// A client that has connected once.
pub(super) struct Life {
    pub(super) desk: Rc<Desk>,
    pub(super) run: Run,
    pub(super) client: Client,
    states: RefCell<ConnectionStates>,
    /// The broker and session that the journal has the client connected to.
    told: Cell<Option<(BrokerNumber, u64)>>,
    /// Whether it has connected since the last mark.
    relinked: Cell<bool>,
}

impl Life {
    /// Brings the journal up to date with the connection; gives back whether there is one.
    ///
    /// To be called before anything is written whose meaning depends on the connection.
    pub(super) fn tell_link(&self) -> bool {
        let state = self.states.borrow().current();
        let (now, resumed) = match &state {
            ConnectionState::Connected { address, session_id, resumed } => {
                (self.desk.broker_at(*address).map(|broker| (broker, *session_id)), *resumed)
            }
            _ => (None, false),
        };
        if now != self.told.replace(now) {
            match now {
                Some((broker, _)) => {
                    self.relinked.set(true);
                    self.desk.note(What::Linked(self.run, broker, resumed));
                }
                None => self.desk.note(What::Unlinked(self.run, why(&state))),
            }
        }
        now.is_some()
    }

    pub(super) fn mark(&self) {
        self.relinked.set(false);
    }

    pub(super) fn is_relinked(&self) -> bool {
        self.relinked.get()
    }

    /// Tells of every change of the connection.
    async fn watch(self: Rc<Self>) {
        let mut states = self.client.states();
        self.tell_link();
        while states.next().await.is_some() {
            self.tell_link();
        }
        self.tell_link();
    }

    /// Moves one zone after the other, now and then.
    async fn move_zones(self: Rc<Self>, script: ClientScript, control: ZoneControl) {
        let mut random = self.random(1);
        let ear = self.ear(0);
        while self.desk.is_publishing() {
            sleep(Duration::from_millis(random.u64(500..5_000))).await;
            let id = random.u32(1..=u32::try_from(script.zones.len()).unwrap_or(1));
            let min = (random.i64(0..FIELD), random.i64(0..FIELD));
            let size = random.i64(0..400);
            let corners = [min, (min.0 + size, min.1 + size)];
            let Some(spec) = zone(id, corners) else { continue };
            self.desk.note(What::GivingUp(ear, id));
            if control.put([spec]).await.is_err() {
                return;
            }
            self.tell_link();
            self.desk.note(What::InForce(ear, id, want(corners)));
        }
    }

    pub(super) fn ear(&self, subscription: u16) -> Ear {
        Ear { run: self.run, subscription }
    }

    /// Random numbers of its own for each use.
    pub(super) fn random(&self, use_number: u64) -> fastrand::Rng {
        let run = u64::from(self.run.client) << 32 | u64::from(self.run.incarnation) << 16 | use_number;
        fastrand::Rng::with_seed(self.desk.script.seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

fn why(state: &ConnectionState) -> String {
    match state {
        ConnectionState::Disconnected { reason, .. } => format!("{}: {reason}", reason.kind()),
        ConnectionState::Connecting { attempt } => format!("connecting, attempt {attempt}"),
        ConnectionState::Closed { reason } => format!("closed: {reason}"),
        _ => "elsewhere".to_owned(),
    }
}

fn zone(id: u32, [min, max]: [(i64, i64); 2]) -> Option<ZoneSpec> {
    let zone = Zone::new(min.0 as f64, min.1 as f64, max.0 as f64, max.1 as f64).ok()?;
    Some(ZoneSpec::new(id, WORLD, zone))
}

fn want([min, max]: [(i64, i64); 2]) -> Want {
    Want::Zone { world: WORLD.into(), min, max }
}

fn config(desk: &Desk, script: &ClientScript) -> ClientConfig {
    let mut transport = TransportOptions::default();
    transport.idle_timeout = IDLE_TIMEOUT;
    transport.keep_alive = KEEP_ALIVE;
    let addresses = |number: &BrokerNumber| -> Option<SocketAddr> {
        desk.script.brokers.iter().find(|(known, _)| known == number).map(|(_, address)| *address)
    };
    let config = ClientConfig::new(format!("chaos-{}", script.run.client))
        .server_name(SERVER_NAME)
        .tls(desk.tls.clone())
        .incarnation(script.run.incarnation.into())
        .transport(transport);
    script.brokers.iter().filter_map(addresses).fold(config, |config, address| config.address(address.to_string()))
}

/// Connects, subscribes, reads and publishes. A step that fails leaves the client not ready, which the stage sees.
pub(super) async fn live(desk: Rc<Desk>, script: ClientScript) {
    let client = loop {
        match Client::connect(config(&desk, &script)).await {
            Ok(client) => break client,
            Err(_) => sleep(TRY_AGAIN_AFTER).await,
        }
    };
    let run = script.run;
    desk.note(What::Source(run, client.source()));
    let states = RefCell::new(client.states());
    let (told, relinked) = (Cell::new(None), Cell::new(false));
    let life = Rc::new(Life { desk: Rc::clone(&desk), run, client, states, told, relinked });
    desk.lives.borrow_mut().push(Rc::clone(&life));
    spawn_local(Rc::clone(&life).watch());

    if !script.zones.is_empty() {
        let specs: Vec<_> = (1..).zip(&script.zones).filter_map(|(id, corners)| zone(id, *corners)).collect();
        let zones = match life.client.subscribe_zones(specs).await {
            Ok(zones) => zones,
            Err(error) => return complain(run, &error),
        };
        life.tell_link();
        for (id, corners) in (1..).zip(&script.zones) {
            desk.note(What::InForce(life.ear(0), id, want(*corners)));
        }
        if script.moves_zones {
            spawn_local(Rc::clone(&life).move_zones(script.clone(), zones.control()));
        }
        spawn_local(Reader::new(&life, 0, &script).read_zones(zones));
    }
    for (number, pattern) in (1..).zip(script.patterns.iter().map(String::as_str).chain([PROBE])) {
        let topics = match life.client.subscribe(pattern).await {
            Ok(topics) => topics,
            Err(error) => return complain(run, &error),
        };
        life.tell_link();
        desk.note(What::InForce(life.ear(number), 0, Want::Topics(pattern.to_owned())));
        spawn_local(Reader::new(&life, number, &script).read_topics(topics));
    }
    for publisher in script.publishers {
        spawn_local(publishing::publish(Rc::clone(&life), publisher));
    }
    desk.count(|standing| standing.ready += 1);
}

#[expect(clippy::print_stderr, reason = "the stage keeps what its peers say")]
fn complain(run: Run, error: &dyn std::error::Error) {
    eprintln!("{run}: {error}");
}
