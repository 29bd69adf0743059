//! Peers that mean harm, over raw QUIC, while others are served: every delivery of those must come, and in time, and
//! the memory of the process must stay within a bound that is stated with each attack.
//!
//! Each runs in a process of its own, whose memory is then its own too. It includes what the attackers need themselves.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use tokio::task::JoinSet;
use zonecast_broker::BrokerConfig;
use zonecast_protocol::ALPN;

use crate::{
    operations::get,
    raw::{Peer, World, client_tls, hello},
};

mod attacks;

crate::with_one_and_two_workers! {
    streams_with_holes
    frames_that_are_broken_or_only_announced
    hellos_that_come_byte_by_byte
    streams_opened_and_reset_without_end
    valid_frames_in_no_valid_order
    handshakes_that_are_never_finished
    answers_that_are_never_read
}

/// Longest time from an event's publishing to its arrival while an attack goes on; on two busy cores, unoptimised.
const IN_TIME: Duration = Duration::from_secs(2);

/// Set in the process that a test starts for itself.
const ALONE: &str = "ZONECAST_TEST_ALONE";

/// Whether this process is the running test's alone. If it is not, runs the test in one that is.
fn is_alone() -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let test = std::thread::current().name().expect("tests run on threads of their name").to_owned();
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args([&test, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test}, alone:\n{text}");
    false
}

/// Resident memory of this process in MiB; 0 where the system does not say.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The way to the broker, for the peers of one runtime. They share four ports, to meet every worker: an endpoint for
/// each would cost more memory than the attacks.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) broker: SocketAddr,
    roots: RootCertStore,
    endpoints: Vec<quinn::Endpoint>,
    next: Arc<AtomicUsize>,
}

impl Target {
    fn new(broker: SocketAddr, roots: RootCertStore) -> Self {
        let endpoint = |_| quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { broker, roots, endpoints: (0..4).map(endpoint).collect(), next: Arc::default() }
    }

    pub(crate) async fn connection(&self) -> quinn::Connection {
        self.connection_with(|honest| honest).await
    }

    pub(crate) async fn connection_with<C: quinn::crypto::ClientConfig + 'static>(
        &self,
        change: impl FnOnce(Arc<QuicClientConfig>) -> Arc<C>,
    ) -> quinn::Connection {
        let honest = QuicClientConfig::try_from(client_tls(ALPN, self.roots.clone(), None)).unwrap();
        let config = quinn::ClientConfig::new(change(Arc::new(honest)));
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len();
        self.endpoints[turn].connect_with(config, self.broker, "localhost").unwrap().await.unwrap()
    }

    pub(crate) async fn client(&self, name: &str) -> Peer {
        Peer::welcomed(self.connection().await, hello(name, 1)).await
    }
}

/// What the good ones see.
#[derive(Default)]
struct Service {
    over: AtomicBool,
    served: AtomicU64,
    worst_us: AtomicU64,
    peak_mib: AtomicU64,
}

impl Service {
    /// One publisher and one receiver; each event must arrive before the next is published.
    async fn pair(self: Arc<Self>, target: Target, number: usize) {
        let topic = format!("good.{number}");
        let mut receiver = target.client(&format!("receiver-{number}")).await;
        receiver.listen(1, &topic, "").await.unwrap();
        let mut publisher = target.client(&format!("publisher-{number}")).await;
        while !self.over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let event = publisher.event_on(&topic);
            assert_eq!(publisher.publish(event).await, Ok(1));
            receiver.received().await;
            self.worst_us.fetch_max(u64::try_from(begun.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
            self.served.fetch_add(1, Ordering::Relaxed);
            self.peak_mib.fetch_max(resident_mib(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Serves four pairs until it is over.
    fn run(self: Arc<Self>, broker: SocketAddr, roots: RootCertStore) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let target = Target::new(broker, roots);
            let mut pairs = JoinSet::new();
            for number in 0..4 {
                pairs.spawn(Arc::clone(&self).pair(target.clone(), number));
            }
            while let Some(pair) = pairs.join_next().await {
                pair.unwrap();
            }
        });
    }

    async fn serves(&self, more: u64) {
        let wanted = self.served.load(Ordering::Relaxed) + more;
        while self.served.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Runs the attack while good clients are served, and says whether they were and what it took.
#[allow(clippy::print_stdout, reason = "the figures, for whoever runs a test alone and with --nocapture")]
async fn under_attack(
    workers: usize,
    growth_mib_max: u64,
    change: impl FnOnce(&mut BrokerConfig),
    attack: impl AsyncFnOnce(&World, &Target),
) {
    if !is_alone() {
        return;
    }
    let world = World::with(workers, change).await;
    let (broker, roots) = (world.broker.local_addr(), world.authority.roots());
    let target = Target::new(broker, roots.clone());
    let service = Arc::new(Service::default());
    // On a thread of their own: what keeps the attackers busy must not make these late.
    let good = std::thread::spawn({
        let service = Arc::clone(&service);
        move || service.run(broker, roots)
    });
    service.serves(100).await;
    let before = resident_mib();
    attack(&world, &target).await;
    service.serves(100).await;
    service.over.store(true, Ordering::Relaxed);
    good.join().expect("good clients are served");

    let worst = Duration::from_micros(service.worst_us.load(Ordering::Relaxed));
    assert!(worst < IN_TIME, "a delivery took {worst:?}");
    let growth = service.peak_mib.load(Ordering::Relaxed).saturating_sub(before);
    assert!(growth <= growth_mib_max, "{growth} MiB more than the {before} MiB before; {growth_mib_max} are expected");
    let (status, metrics) = get(&world, "/metrics").await;
    assert!(status == 200 && !metrics.contains("INTERNAL"), "the broker has failed somewhere:\n{metrics}");
    println!("served {}, the latest after {worst:?}, {growth} MiB more", service.served.load(Ordering::Relaxed));
}

async fn streams_with_holes(workers: usize) {
    // Eight attackers fill their windows of 4 MiB; as much again is what they keep to send it, and for fragments.
    under_attack(workers, 8 * 4 * 3, |_| {}, attacks::holes).await;
}

async fn frames_that_are_broken_or_only_announced(workers: usize) {
    under_attack(workers, 48, |_| {}, attacks::broken_frames).await;
}

async fn hellos_that_come_byte_by_byte(workers: usize) {
    let short = |config: &mut BrokerConfig| config.connections.hello_timeout = Duration::from_secs(1);
    under_attack(workers, 48, short, attacks::slow_hellos).await;
}

async fn streams_opened_and_reset_without_end(workers: usize) {
    under_attack(workers, 64, |_| {}, attacks::stream_floods).await;
}

async fn valid_frames_in_no_valid_order(workers: usize) {
    under_attack(workers, 48, |_| {}, attacks::disorder).await;
}

async fn handshakes_that_are_never_finished(workers: usize) {
    // Most of it are the sockets and buffers of two hundred clients that say one word.
    let few = |config: &mut BrokerConfig| config.connections.retry_from_handshakes = 50;
    under_attack(workers, 96, few, attacks::half_open).await;
}

async fn answers_that_are_never_read(workers: usize) {
    let short = |config: &mut BrokerConfig| config.connections.slow_consumer_timeout = Duration::from_secs(1);
    // Six attackers: windows of 4 MiB, and what waits to be answered.
    under_attack(workers, 6 * 16, short, attacks::unread_answers).await;
}
