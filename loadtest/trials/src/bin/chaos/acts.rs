//! The acts of a run. Each has brokers and peers of its own; the stage ends them when the act is over.

pub(crate) mod certificates;
pub(crate) mod descriptors;
pub(crate) mod frozen;
pub(crate) mod memory;
pub(crate) mod mixed;
pub(crate) mod restarts;
pub(crate) mod storm;

use std::{rc::Rc, time::Duration};

use zonecast_trials::{BrokerNumber, Run, Shares};

use crate::{
    broker::Broker,
    crew::{self, Peer},
    script::{Aims, ClientScript, Order, PublisherScript},
    stage::Stage,
};

/// How long clients may take to connect and subscribe when nothing goes wrong.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Everything must be finished so long after all is well again.
const HEALED_WITHIN: Duration = Duration::from_secs(40);
/// When nothing was delivered for so long over a network that loses packets, nothing more is under way.
const QUIET: Duration = Duration::from_secs(2);
/// The same where nothing was lost.
const QUIET_WHERE_CALM: Duration = Duration::from_millis(500);

/// A client that only listens to these patterns.
fn listener(brokers: &[Rc<Broker>], patterns: &[&str]) -> ClientScript {
    ClientScript {
        run: Run { client: 0, incarnation: 0 },
        brokers: brokers.iter().map(|broker| broker.number).collect::<Vec<BrokerNumber>>(),
        zones: Vec::new(),
        moves_zones: false,
        patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        takes_up_to: Duration::ZERO,
        explicit: false,
        publishers: Vec::new(),
    }
}

/// A publisher on a topic.
fn publisher(lane: u8, topic: &str, every: Duration, shares: Shares) -> PublisherScript {
    PublisherScript {
        lane,
        every,
        aims: Aims::Topics(vec![topic.to_owned()]),
        shares,
        payload_bytes_max: 100,
        expires_in: Duration::from_secs(10),
        awaited_max: 200,
    }
}

/// Starts peers, and waits until all their clients are connected with all that they want.
async fn begin(stage: &Stage, peers: &[Rc<Peer>]) -> anyhow::Result<()> {
    for peer in peers {
        peer.start().await?;
    }
    if !crew::all_ready(peers, READY_WITHIN).await {
        anyhow::bail!("peers are not ready in time; see their logs with --keep");
    }
    stage.say("everyone is ready");
    Ok(())
}

/// Ends publishing, and waits until all is answered, and nothing was delivered for `quiet`.
async fn wind_up(stage: &Stage, peers: &[Rc<Peer>], quiet: Duration) {
    crew::tell_all(peers, Order::BeQuiet).await;
    if !crew::settle(peers, quiet, HEALED_WITHIN).await {
        stage.say("it does not settle: the observer will say what is stuck");
    }
}
