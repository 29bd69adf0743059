//! One simulated run: real brokers and clients on a virtual clock and network, through calm, chaos, and what follows.
//!
//! [`perform`] plays a [`Plan`]. Nothing in it depends on anything but the plan: there is one thread, the clock stands
//! still while anything can run, and every random number is drawn from the plan's seed.

mod application;
mod broker_host;
mod chaos;
mod client_host;
mod hand_over;
mod identity;
mod process;
mod publishing;
mod stage;

use std::{rc::Rc, time::Duration};

use tokio::{
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};

use self::{broker_host::BrokerHost, client_host::ClientHost, stage::Stage};
pub use self::{chaos::TROUBLES, identity::Identity, stage::TroubleCounts};
use crate::{Findings, Plan, network::PacketCounts};

/// Everything must be finished so long after the last publish, and all clients connected.
pub const HEALED_WITHIN: Duration = Duration::from_secs(40);
/// When nothing was delivered for so long, nothing more is under way: longer than QUIC's longest wait before it sends
/// again what a lost packet held.
const QUIET: Duration = Duration::from_secs(4);

/// Under this name, beside the troubles, it is counted how many sessions were ended because they read too slowly.
pub const SLOW_CONSUMERS: &str = "slow_consumers_ended";

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the observer found.
    pub findings: Findings,
    /// What befell packets.
    pub packets: PacketCounts,
    /// How often each kind of trouble really happened.
    pub troubles: TroubleCounts,
    /// How long it took by the virtual clock.
    pub virtual_time: Duration,
    /// The hash of all packets.
    pub hash: u64,
}

/// Where the story of a run is told, line by line.
pub type Teller = Box<dyn Fn(&str)>;

/// Plays a plan from the beginning to the end.
///
/// # Panics
/// The runtime cannot be built.
#[must_use]
pub fn perform(plan: Plan, identity: &Identity, teller: Option<Teller>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing that could be lacking");
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, play(plan, identity.clone(), teller))
}

async fn play(plan: Plan, identity: Identity, teller: Option<Teller>) -> Outcome {
    let stage = Rc::new(Stage::new(plan, identity, teller));
    let network = stage.network.clone();
    spawn_local(async move { network.carry().await });
    for number in 0..stage.plan.brokers.len() {
        let host = BrokerHost::new(&stage, number);
        host.start();
        stage.brokers.borrow_mut().push(Rc::new(host));
    }
    for number in 0..stage.plan.clients.len() {
        let host = Rc::new(ClientHost::new(&stage, number));
        host.start();
        stage.clients.borrow_mut().push(host);
    }
    chaos::unleash(&stage).await;
    stage.heal();
    sleep_until(stage.began + stage.plan.published).await;
    stage.say(|| "publishing ends".into());
    stage.publishing.set(false);
    settle(&stage).await;
    publishing::probe(&stage).await;
    settle(&stage).await;
    stage.accuse_untold();
    let (packets, hash) = (stage.network.counts(), stage.network.hash());
    let troubles = stage.troubles.borrow().clone();
    let virtual_time = stage.began.elapsed();
    Outcome { findings: stage.conclude(), packets, troubles, virtual_time, hash }
}

/// Waits until all is answered, everyone is connected and nothing more arrives, or the time for that is over.
async fn settle(stage: &Stage) {
    let deadline = Instant::now() + HEALED_WITHIN;
    let mut delivered = stage.delivered();
    let mut quiet_since = Instant::now();
    while Instant::now() < deadline {
        sleep(Duration::from_millis(250)).await;
        if stage.delivered() != delivered || !stage.is_settled() {
            delivered = stage.delivered();
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= QUIET {
            return;
        }
    }
    stage.say(|| "it does not settle".into());
}
