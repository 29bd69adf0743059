//! Two brokers and 30 clients in six processes, and everything that can go wrong with them, at random.

mod troubles;

use std::{rc::Rc, time::Duration};

use zonecast_trials::Shares;

use super::{HEALED_WITHIN, QUIET, begin, wind_up};
use crate::{
    broker::Broker,
    crew::{self, Peer},
    script::{Aims, ClientScript, FIELD, Order, PublisherScript},
    stage::Stage,
};

const PEERS: usize = 6;
const CLIENTS_PER_PEER: usize = 5;
/// Patterns that clients listen to, and the topics that they publish on.
const PATTERNS: [&str; 5] = ["t.a", "t.b", "t.*", "t.>", "t.c"];
const TOPICS: [&str; 5] = ["t.a", "t.b", "t.c", "t.a.deep", "t.unheard.of"];

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(stage.options.seed);
    let settings = [("connections-slow-consumer-timeout-ms", "4000")];
    let brokers = [Broker::new(stage, &settings, &[]), Broker::new(stage, &settings, &[])];
    for broker in &brokers {
        broker.start().await?;
    }
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let clients = (0..CLIENTS_PER_PEER).map(|_| client(&mut random, &brokers)).collect();
            Peer::new(stage, &brokers, clients)
        })
        .collect();
    begin(stage, &peers).await?;
    troubles::unleash(stage, &brokers, &peers, stage.options.mixed_time(), &mut random).await;
    stage.say("all troubles are over");
    wind_up(stage, &peers, QUIET).await;
    // A last question to everyone: it must be heard by all who are at the same broker.
    crew::tell_all(&peers, Order::Probe).await;
    if !crew::settle(&peers, QUIET, HEALED_WITHIN).await {
        stage.say("the last question is not answered by all");
    }
    Ok(())
}

fn client(random: &mut fastrand::Rng, brokers: &[Rc<Broker>; 2]) -> ClientScript {
    let mut known = brokers.to_vec();
    if random.u64(..3) == 0 {
        known.reverse();
    }
    let mut patterns = PATTERNS.to_vec();
    random.shuffle(&mut patterns);
    patterns.truncate(random.usize(0..=2));
    let zones = (0..random.u64(0..=2)).map(|_| rectangle(random)).collect();
    let publishers = (0..random.u8(1..=2)).map(|lane| publisher(random, lane)).collect();
    ClientScript {
        zones,
        moves_zones: random.u64(..3) == 0,
        takes_up_to: Duration::from_micros(random.u64(0..=20_000) * random.u64(0..=1)),
        explicit: random.bool(),
        publishers,
        ..super::listener(&known, &patterns)
    }
}

fn rectangle(random: &mut fastrand::Rng) -> [(i64, i64); 2] {
    let size = if random.u64(..8) == 0 { 0 } else { random.i64(50..500) };
    let min = (random.i64(0..FIELD), random.i64(0..FIELD));
    [min, (min.0 + size, min.1 + size / 2)]
}

fn publisher(random: &mut fastrand::Rng, lane: u8) -> PublisherScript {
    let shares = |routed, processed, state, transient| Shares { routed, processed, state, transient };
    let mixes =
        [shares(40, 40, 5, 10), Shares::PROCESSED, Shares::ROUTED, shares(20, 40, 20, 10), shares(10, 10, 0, 70)];
    let topics = TOPICS.map(str::to_owned).to_vec();
    PublisherScript {
        lane,
        every: Duration::from_millis(random.u64(60..400)),
        aims: if random.u64(..5) < 2 { Aims::Topics(topics) } else { Aims::Anywhere },
        shares: mixes[random.usize(..mixes.len())],
        payload_bytes_max: [20, 200, 200, 3_000][random.usize(..4)],
        expires_in: Duration::from_secs(random.u64(5..20)),
        awaited_max: 100,
    }
}
