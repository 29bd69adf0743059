//! A network that exists in memory only, fails on purpose, and does so alike whenever its seed is the same.
//!
//! Every packet takes its time by the paused clock. What goes wrong with it (lost, doubled, late, bent, stopped at a
//! partition) is drawn from one sequence of random numbers, in the order in which packets are sent, so two runs in which
//! the same packets are sent at the same times go wrong in the same way. A running hash of all packets tells whether two
//! runs were the same.

mod ground;
mod link;
mod packet_hash;
mod socket;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use quinn::udp::EcnCodepoint;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

pub(crate) use self::ground::{mixed, seed_bytes};
pub use self::{
    ground::{ClientGround, LocalRuntime, endpoint_config},
    link::{Fault, FaultId, Host, Scope},
    socket::Socket,
};
use self::{
    link::{Fate, Faults},
    packet_hash::{PacketHash, steer},
};

/// Bytes that wait in a socket before further packets are dropped, as a system's receive buffer would.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// The longest packet that any link carries.
const MTU_BYTES: usize = 1472;

/// How often each kind of trouble befell a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Packets handed to the network.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delayed so that later ones overtook them.
    pub reordered: u64,
    /// Delivered with a bit flipped.
    pub bits_flipped: u64,
    /// Lost because a link was too narrow for them.
    pub too_long: u64,
    /// Stopped by a partition in both directions.
    pub partitioned: u64,
    /// Stopped by a partition in one direction.
    pub partitioned_one_way: u64,
    /// Kept back while a host was stalled.
    pub held: u64,
    /// Dropped because a socket's buffer was full.
    pub overflowed: u64,
    /// Addressed to where nobody listens (any more).
    pub undeliverable: u64,
}

impl AddAssign for PacketCounts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.bits_flipped += other.bits_flipped;
        self.too_long += other.too_long;
        self.partitioned += other.partitioned;
        self.partitioned_one_way += other.partitioned_one_way;
        self.held += other.held;
        self.overflowed += other.overflowed;
        self.undeliverable += other.undeliverable;
    }
}

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when a packet is due earlier than any before.
    earlier: Notify,
}

struct State {
    began: Instant,
    random: fastrand::Rng,
    faults: Faults,
    /// Who answers at an address: one socket, or one per worker.
    sockets: BTreeMap<SocketAddr, Vec<usize>>,
    /// All sockets that ever were; their places are their names.
    inboxes: Vec<Inbox>,
    /// Packets on their way, by the time of their arrival and then by the order in which they were sent.
    under_way: BTreeMap<(Instant, u64), Packet>,
    packets_numbered: u64,
    counts: PacketCounts,
    hash: PacketHash,
}

struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Box<[u8]>,
}

/// What has arrived at a socket.
struct Inbox {
    host: Host,
    /// As others see it; changes when the client behind it moves.
    address: SocketAddr,
    open: bool,
    arrived: VecDeque<Packet>,
    arrived_bytes: usize,
    reader: Option<Waker>,
}

impl Network {
    /// A network without faults and without hosts.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let state = State {
            began: Instant::now(),
            faults: Faults::new(&mut random),
            random,
            sockets: BTreeMap::new(),
            inboxes: Vec::new(),
            under_way: BTreeMap::new(),
            packets_numbered: 0,
            counts: PacketCounts::default(),
            hash: PacketHash::default(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), earlier: Notify::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a socket of a host. Several on one address share its packets, spread by the sender's address.
    #[must_use]
    pub fn bind(&self, host: Host, address: SocketAddr) -> Arc<Socket> {
        let mut state = self.state();
        let place = state.inboxes.len();
        let inbox = Inbox { host, address, open: true, arrived: VecDeque::new(), arrived_bytes: 0, reader: None };
        state.inboxes.push(inbox);
        state.sockets.entry(address).or_default().push(place);
        Arc::new(Socket::new(self.clone(), place, address))
    }

    /// Takes all sockets of a host off the network, as when its process is killed: nothing is sent from them any more.
    pub fn cut_off(&self, host: Host) {
        let mut state = self.state();
        let State { inboxes, sockets, .. } = &mut *state;
        for inbox in inboxes.iter_mut().filter(|inbox| inbox.host == host && inbox.open) {
            inbox.open = false;
            inbox.arrived.clear();
            inbox.arrived_bytes = 0;
            sockets.remove(&inbox.address);
        }
    }

    /// Gives the sockets of a host another address, as when a router in between forgets them: packets to the old one
    /// arrive nowhere.
    pub fn rebind(&self, host: Host, address: SocketAddr) {
        let mut state = self.state();
        let State { inboxes, sockets, .. } = &mut *state;
        for (place, inbox) in inboxes.iter_mut().enumerate().filter(|(_, inbox)| inbox.host == host && inbox.open) {
            sockets.remove(&inbox.address);
            inbox.address = address;
            sockets.entry(address).or_default().push(place);
        }
    }

    /// Lets a fault begin.
    pub fn begin(&self, fault: Fault, scope: Scope) -> FaultId {
        self.state().faults.begin(fault, scope)
    }

    /// Lets a fault end. What was held back goes on its way.
    pub fn end(&self, fault: FaultId) {
        let mut state = self.state();
        let now = Instant::now();
        for packet in state.faults.end(fault) {
            state.dispatch(packet, now);
        }
        drop(state);
        self.shared.earlier.notify_one();
    }

    /// How often what befell packets so far.
    #[must_use]
    pub fn counts(&self) -> PacketCounts {
        self.state().counts
    }

    /// A hash of the times, addresses and lengths of all packets sent so far, in their order.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.state().hash.value()
    }

    fn send(&self, place: usize, to: SocketAddr, ecn: Option<EcnCodepoint>, bytes: &[u8]) {
        let now = Instant::now();
        let mut state = self.state();
        let before = state.next_due();
        state.send(place, to, ecn, bytes, now);
        let is_earlier = state.next_due() != before;
        drop(state);
        if is_earlier {
            self.shared.earlier.notify_one();
        }
    }

    /// Carries packets. Runs until it is dropped.
    pub async fn carry(&self) {
        loop {
            let due = {
                let mut state = self.state();
                state.deliver(Instant::now());
                state.next_due()
            };
            let earlier = self.shared.earlier.notified();
            match due {
                None => earlier.await,
                Some(due) => tokio::select! {
                    biased;
                    () = sleep_until(due) => {}
                    () = earlier => {}
                },
            }
        }
    }
}

impl State {
    fn next_due(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }

    fn send(&mut self, place: usize, to: SocketAddr, ecn: Option<EcnCodepoint>, bytes: &[u8], now: Instant) {
        let inbox = &self.inboxes[place];
        if !inbox.open {
            return;
        }
        let (from, from_host) = (inbox.address, inbox.host);
        self.counts.sent += 1;
        self.hash.add(now - self.began, from, to, bytes.len());
        let Some(to_host) = self.host_at(to) else {
            self.counts.undeliverable += 1;
            return;
        };
        if bytes.len() > MTU_BYTES {
            return;
        }
        let packet = Packet { from, to, ecn, bytes: bytes.into() };
        match self.faults.fate(&mut self.random, &mut self.counts, (from_host, to_host), bytes.len()) {
            Fate::Lost => {}
            Fate::Held(fault) => self.faults.hold(fault, packet),
            Fate::Arrives { after, bent } => {
                let packet = if bent { self.bend(packet) } else { packet };
                self.dispatch(packet, now + after);
            }
            Fate::ArrivesTwice { after, again_after } => {
                let copy = Packet { bytes: packet.bytes.clone(), ..packet };
                self.dispatch(packet, now + after);
                self.dispatch(copy, now + again_after);
            }
        }
    }

    /// Flips one bit of a packet, anywhere in it.
    fn bend(&mut self, mut packet: Packet) -> Packet {
        let bit = self.random.usize(..packet.bytes.len().max(1) * 8);
        if let Some(byte) = packet.bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        packet
    }

    fn host_at(&self, address: SocketAddr) -> Option<Host> {
        self.sockets.get(&address).and_then(|places| places.first()).map(|place| self.inboxes[*place].host)
    }

    fn dispatch(&mut self, packet: Packet, arrival: Instant) {
        self.packets_numbered += 1;
        self.under_way.insert((arrival, self.packets_numbered), packet);
    }

    fn deliver(&mut self, now: Instant) {
        while let Some(first) = self.under_way.first_entry() {
            if first.key().0 > now {
                return;
            }
            let packet = first.remove();
            let Some(places) = self.sockets.get(&packet.to) else {
                self.counts.undeliverable += 1;
                continue;
            };
            let inbox = &mut self.inboxes[places[steer(packet.from, places.len())]];
            if inbox.arrived_bytes + packet.bytes.len() > RECEIVE_BUFFER_BYTES {
                self.counts.overflowed += 1;
                continue;
            }
            inbox.arrived_bytes += packet.bytes.len();
            inbox.arrived.push_back(packet);
            if let Some(reader) = inbox.reader.take() {
                reader.wake();
            }
        }
    }
}
