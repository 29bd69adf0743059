//! What is going to happen in one simulated run, drawn from its seed before the run begins.

use std::{ops::Range, time::Duration};

use fastrand::Rng;

use crate::Shares;

/// Sides of the square in which zones and events lie.
const FIELD: i64 = 1_000;
/// Patterns that clients listen to, and the topics that they publish on.
const PATTERNS: [&str; 6] = ["t.a", "t.b", "t.*", "t.>", "t.a.deep", "t.c"];
/// Topics of events.
pub(crate) const TOPICS: [&str; 5] = ["t.a", "t.b", "t.c", "t.a.deep", "t.unheard.of"];
/// Time before the first trouble.
const CALM_MS: Range<u64> = 500..4_000;
/// Time in which troubles begin and end.
const CHAOS_MS: Range<u64> = 8_000..30_000;
/// Time after the last trouble in which publishing goes on.
const AFTER_MS: Range<u64> = 500..3_000;

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// From which it is drawn, and which draws what is not in it.
    pub seed: u64,
    /// Workers of each broker.
    pub brokers: Vec<usize>,
    /// The clients.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong, and when.
    pub troubles: Vec<Trouble>,
    /// When the first trouble may begin.
    pub calm: Duration,
    /// When the last has ended.
    pub healed: Duration,
    /// When publishing ends.
    pub published: Duration,
    /// After so much silence a connection is lost, for clients and brokers.
    pub idle_timeout: Duration,
    /// For so long a session outlives its connection.
    pub resume_window: Duration,
    /// So long a subscriber may hold up others.
    pub slow_consumer_timeout: Duration,
    /// Whether queues are so short that they fill.
    pub short_queues: bool,
    /// How often a broker's thread does not get its turn at once.
    pub hesitation: f64,
}

/// One client, over all its runs.
#[derive(Debug, Clone)]
pub struct ClientPlan {
    /// The brokers that it knows, the first one first.
    pub brokers: Vec<u16>,
    /// Its zones: south-west and north-east corners.
    pub zones: Vec<[(i64, i64); 2]>,
    /// Whether it moves a zone now and then.
    pub moves_zones: bool,
    /// Its topic patterns.
    pub patterns: Vec<&'static str>,
    /// Whether it drops a subscription now and then, and subscribes again.
    pub churns: bool,
    /// Whether it shares `work.*` with others of the same group.
    pub shares_work: bool,
    /// Whether its application acknowledges by itself.
    pub explicit: bool,
    /// The longest that its application takes over one event.
    pub takes_at_most: Duration,
    /// Its publishers, each on the lane of its number.
    pub publishers: Vec<PublisherPlan>,
}

/// One publisher.
#[derive(Debug, Clone)]
pub struct PublisherPlan {
    /// Mean time between two events, or two bursts.
    pub every: Duration,
    /// Events of a burst, at most.
    pub burst: u64,
    /// What it mixes.
    pub shares: Shares,
    /// Longest payload.
    pub payload_bytes_max: usize,
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// When it begins.
    pub from: Duration,
    /// For how long, where it lasts.
    pub lasts: Duration,
    /// What.
    pub kind: TroubleKind,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy)]
pub enum TroubleKind {
    /// Packets to and from a host are lost: this share.
    Loss(Place, f64),
    /// Packets come twice.
    Duplication(Place, f64),
    /// Packets overtake each other.
    Reordering(Place, f64),
    /// Bits flip.
    BitFlips(Place, f64),
    /// Packets longer than this are lost.
    NarrowLinks(Place, usize),
    /// A host is cut off.
    Partition(Place),
    /// Nothing leaves a host, though it hears.
    Mute(Place),
    /// Nothing reaches a host, though it speaks.
    Deaf(Place),
    /// A client's packets are held up.
    ClientStall(u16),
    /// A broker stands still, its clocks too.
    BrokerStall(u16),
    /// A client gets another address.
    Rebind(u16),
    /// All clients get other addresses at once.
    ReconnectStorm,
    /// A broker is killed, and started again at the end.
    BrokerKill(u16),
    /// A broker is shut down in good order, and started again at the end.
    BrokerShutdown(u16),
    /// A client is killed, and started again at the end.
    ClientKill(u16),
    /// A second process of a client is started while the first one lives.
    ClientTwin(u16),
    /// A client leaves in good order, and comes again at the end.
    ClientLeaves(u16),
    /// Two clients hand a zone to and fro.
    HandOverStorm(u16, u16),
    /// A client's application reads nothing.
    FrozenReader(u16),
}

/// A host, or all of them.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// This client.
    Client(u16),
    /// This broker.
    Broker(u16),
    /// All.
    Everywhere,
}

/// How many kinds of trouble there are.
const KINDS: u64 = 19;

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let brokers: Vec<usize> = (0..rng.u64(1..=2)).map(|_| rng.usize(1..=3)).collect();
        let busy = rng.u64(..4) == 0;
        let clients: Vec<_> = (0..rng.u64(3..=8)).map(|_| ClientPlan::draw(rng, brokers.len(), busy)).collect();
        let calm = millis(rng, CALM_MS);
        let healed = calm + millis(rng, CHAOS_MS);
        let published = healed + millis(rng, AFTER_MS);
        let hosts = Hosts { brokers: brokers.len() as u16, clients: clients.len() as u16 };
        let mut troubles: Vec<_> = (0..rng.u64(4..=14)).map(|_| Trouble::draw(rng, &hosts, (calm, healed))).collect();
        troubles.sort_by_key(|trouble| trouble.from);
        Self {
            seed,
            brokers,
            clients,
            troubles,
            calm,
            healed,
            published,
            idle_timeout: millis(rng, 2_000..8_000),
            resume_window: millis(rng, 1_000..20_000),
            slow_consumer_timeout: millis(rng, 1_500..6_000),
            short_queues: rng.u64(..3) == 0,
            hesitation: [0.0, 0.001, 0.01, 0.1][rng.usize(..4)],
        }
    }
}

impl ClientPlan {
    fn draw(rng: &mut Rng, brokers: usize, busy: bool) -> Self {
        let mut known: Vec<u16> = (0..brokers as u16).collect();
        if rng.bool() {
            known.reverse();
        }
        let zones = (0..rng.u64(0..=4)).map(|_| rectangle(rng)).collect();
        let mut patterns = PATTERNS.to_vec();
        rng.shuffle(&mut patterns);
        patterns.truncate(rng.usize(0..=2));
        let publishers = (0..rng.u64(0..=3)).map(|_| PublisherPlan::draw(rng, busy)).collect();
        Self {
            brokers: known,
            zones,
            moves_zones: rng.u64(..3) == 0,
            patterns,
            churns: rng.u64(..4) == 0,
            shares_work: rng.u64(..3) == 0,
            explicit: rng.bool(),
            takes_at_most: Duration::from_micros(rng.u64(0..=30_000) * rng.u64(0..=1)),
            publishers,
        }
    }
}

impl PublisherPlan {
    fn draw(rng: &mut Rng, busy: bool) -> Self {
        let shares = |routed, processed, state, transient| Shares { routed, processed, state, transient };
        let mixes =
            [shares(40, 30, 10, 15), Shares::PROCESSED, Shares::ROUTED, shares(20, 20, 40, 10), shares(10, 10, 0, 70)];
        Self {
            every: millis(rng, if busy { 15..80 } else { 40..400 }),
            burst: if rng.u64(..4) == 0 { rng.u64(2..=20) } else { 1 },
            shares: mixes[rng.usize(..mixes.len())],
            payload_bytes_max: [20, 200, 200, 3_000, 20_000][rng.usize(..5)],
        }
    }
}

struct Hosts {
    brokers: u16,
    clients: u16,
}

impl Trouble {
    fn draw(rng: &mut Rng, hosts: &Hosts, (earliest, latest): (Duration, Duration)) -> Self {
        let kind = TroubleKind::draw(rng, hosts);
        // Short ones are passed over by QUIC, long ones cost the connection, or the session.
        let lasts = match rng.u64(..10) {
            0..3 => millis(rng, 5..300),
            3..8 => millis(rng, 300..4_000),
            _ => millis(rng, 4_000..15_000),
        };
        let lasts = lasts.min(latest - earliest);
        let from = earliest + (latest - earliest - lasts).mul_f64(rng.f64());
        Self { from, lasts, kind }
    }
}

impl TroubleKind {
    fn draw(rng: &mut Rng, hosts: &Hosts) -> Self {
        let client = rng.u16(..hosts.clients);
        let broker = rng.u16(..hosts.brokers);
        let place = match rng.u64(..4) {
            0 => Place::Everywhere,
            1 => Place::Broker(broker),
            _ => Place::Client(client),
        };
        let single = if rng.u64(..3) == 0 { Place::Broker(broker) } else { Place::Client(client) };
        match rng.u64(..KINDS) {
            0 => Self::Loss(place, 0.01 + 0.3 * rng.f64()),
            1 => Self::Duplication(place, 0.02 + 0.5 * rng.f64()),
            2 => Self::Reordering(place, 0.02 + 0.5 * rng.f64()),
            3 => Self::BitFlips(place, 0.01 + 0.2 * rng.f64()),
            4 => Self::Partition(single),
            5 => Self::Mute(single),
            6 => Self::Deaf(single),
            7 => Self::ClientStall(client),
            8 => Self::BrokerStall(broker),
            9 => Self::Rebind(client),
            10 => Self::ReconnectStorm,
            11 => Self::BrokerKill(broker),
            12 => Self::ClientKill(client),
            13 => Self::ClientLeaves(client),
            15 => Self::BrokerShutdown(broker),
            16 => Self::ClientTwin(client),
            17 => Self::NarrowLinks(place, rng.usize(1_200..1_452)),
            14 => Self::HandOverStorm(client, (client + rng.u16(1..hosts.clients)) % hosts.clients),
            _ => Self::FrozenReader(client),
        }
    }
}

fn millis(rng: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// A rectangle of the field; one in eight has no area.
fn rectangle(rng: &mut Rng) -> [(i64, i64); 2] {
    let size = if rng.u64(..8) == 0 { 0 } else { rng.i64(50..600) };
    let (x, y) = point(rng);
    [(x, y), (x + size, y + size / 2)]
}

/// A point of the field.
pub(crate) fn point(rng: &mut Rng) -> (i64, i64) {
    (rng.i64(0..FIELD), rng.i64(0..FIELD))
}
