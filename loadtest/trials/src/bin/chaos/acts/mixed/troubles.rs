//! The troubles of the mixed act: each is begun and ended by a task of its own, some at a time.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use rustix::process::Signal;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{broker::Broker, crew::Peer, field::Fault, stage::Stage};

/// Troubles at a time, at most.
const AT_ONCE_MAX: usize = 3;
/// Longest pause between the beginnings of two.
const PAUSE_MS_MAX: u64 = 900;

/// Things that befall packets, the frequent ones counted several times.
const PACKET_KINDS: u64 = 11;

/// Who is in trouble already. A process that is stopped is not killed, so that each trouble is what it is counted as.
#[derive(Clone, Default)]
struct Taken(Rc<RefCell<BTreeSet<String>>>);

/// Gives back who was taken.
struct Hold(Taken, String);

impl Taken {
    fn take(&self, who: String) -> Option<Hold> {
        self.0.borrow_mut().insert(who.clone()).then(|| Hold(self.clone(), who))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
    }
}

/// Lets troubles happen for this time; returns when the last is over, all processes run and the network is well.
pub(super) async fn unleash(
    stage: &Rc<Stage>,
    brokers: &[Rc<Broker>; 2],
    peers: &[Rc<Peer>],
    time: Duration,
    random: &mut fastrand::Rng,
) {
    let end = Instant::now() + time;
    let taken = Taken::default();
    let mut troubles = JoinSet::new();
    let mut deck = Vec::new();
    while Instant::now() < end {
        if deck.is_empty() {
            deck = Kind::deck(random, stage.field.can_lose_packets());
        }
        sleep(Duration::from_millis(random.u64(50..PAUSE_MS_MAX))).await;
        while troubles.len() >= AT_ONCE_MAX {
            troubles.join_next().await;
        }
        let lasts = duration(random).min(end.saturating_duration_since(Instant::now()));
        let broker = &brokers[random.usize(..brokers.len())];
        let peer = &peers[random.usize(..peers.len())];
        let scene = Scene { stage: Rc::clone(stage), broker: Rc::clone(broker), peer: Rc::clone(peer), lasts };
        let kind = deck.pop().unwrap_or(Kind::BrokerKill);
        let who = match kind {
            Kind::BrokerKill | Kind::BrokerEnd | Kind::BrokerStop => broker.number.to_string(),
            Kind::PeerKill | Kind::PeerStop => format!("peer {}", peer.number),
            Kind::Packets(number) => format!("packets {number}"),
        };
        let Some(hold) = taken.take(who) else { continue };
        let draw = random.u32(..);
        troubles.spawn_local(async move {
            scene.play(kind, draw).await;
            drop(hold);
        });
    }
    while troubles.join_next().await.is_some() {}
    if stage.field.can_lose_packets()
        && let Err(error) = stage.faults.heal().await
    {
        stage.breach(format!("the network does not heal: {error:#}"));
    }
}

/// What a trouble is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    BrokerKill,
    BrokerEnd,
    BrokerStop,
    PeerKill,
    PeerStop,
    /// One of the things that befall packets.
    Packets(u64),
}

impl Kind {
    /// All kinds, the frequent ones several times, shuffled: drawn from a deck each of them happens before long.
    fn deck(random: &mut fastrand::Rng, can_lose_packets: bool) -> Vec<Self> {
        let mut deck = vec![Self::BrokerKill, Self::BrokerKill, Self::BrokerEnd, Self::BrokerStop, Self::PeerKill];
        deck.extend([Self::PeerStop; 3]);
        if can_lose_packets {
            deck.extend((0..PACKET_KINDS).map(Self::Packets));
        }
        random.shuffle(&mut deck);
        deck
    }
}

/// Short ones are passed over by QUIC, long ones cost the connection, or the session.
fn duration(random: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(match random.u64(..10) {
        0..3 => random.u64(5..300),
        3..6 => random.u64(300..2_500),
        6..9 => random.u64(2_500..6_000),
        _ => random.u64(6_000..12_000),
    })
}

/// Whom a trouble befalls, and for how long.
struct Scene {
    stage: Rc<Stage>,
    broker: Rc<Broker>,
    peer: Rc<Peer>,
    lasts: Duration,
}

impl Scene {
    async fn play(&self, kind: Kind, draw: u32) {
        match kind {
            Kind::BrokerKill => self.end_broker(false).await,
            Kind::BrokerEnd => self.end_broker(true).await,
            Kind::BrokerStop => self.stop_broker().await,
            Kind::PeerKill => self.kill_peer().await,
            Kind::PeerStop => self.stop_peer().await,
            Kind::Packets(number) => self.stage.befall(self.fault(number, draw), self.lasts).await,
        }
    }

    fn fault(&self, number: u64, draw: u32) -> Fault {
        let port = self.broker.address().map_or(0, |address| address.port());
        let link = self.peer.link();
        match number {
            0 | 1 => Fault::Loss(None, 10 + draw % 150),
            2 | 3 => Fault::Loss(Some(link), 50 + draw % 400),
            4 | 5 => Fault::Cut(link),
            6 => Fault::Mute(link),
            7 => Fault::Deaf(link),
            8 => Fault::BrokerCut(port),
            9 => Fault::BrokerMute(port),
            _ => Fault::Narrow(link, 200 + draw % 3_000),
        }
    }

    /// Kills a broker or asks it to end, and starts it again.
    async fn end_broker(&self, is_asked: bool) {
        let Self { stage, broker, lasts, .. } = self;
        if is_asked {
            stage.say(&format!("{} is asked to end", broker.number));
            stage.count("broker_ends");
            broker.terminate().await;
        } else {
            stage.say(&format!("{} is killed for {} ms", broker.number, lasts.as_millis()));
            stage.count("broker_kills");
            broker.kill().await;
        }
        sleep(*lasts).await;
        stage.count("broker_restarts");
        if let Err(error) = broker.start().await {
            stage.breach(format!("{} cannot be started again: {error:#}", broker.number));
        }
    }

    async fn stop_broker(&self) {
        let Self { stage, broker, lasts, .. } = self;
        stage.say(&format!("{} is stopped for {} ms", broker.number, lasts.as_millis()));
        stage.count("broker_stops");
        broker.signal(Signal::STOP);
        sleep(*lasts).await;
        broker.signal(Signal::CONT);
    }

    async fn kill_peer(&self) {
        let Self { stage, peer, lasts, .. } = self;
        stage.say(&format!("peer {} is killed for {} ms", peer.number, lasts.as_millis()));
        stage.count("client_process_kills");
        peer.kill().await;
        sleep(*lasts).await;
        if let Err(error) = peer.start().await {
            stage.breach(format!("peer {} cannot be started again: {error:#}", peer.number));
        }
    }

    async fn stop_peer(&self) {
        let Self { stage, peer, lasts, .. } = self;
        stage.say(&format!("peer {} is stopped for {} ms", peer.number, lasts.as_millis()));
        stage.count("client_process_stops");
        peer.signal(Signal::STOP);
        sleep(*lasts).await;
        peer.signal(Signal::CONT);
    }
}
