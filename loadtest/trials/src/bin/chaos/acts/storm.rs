//! Many clients, whose one broker is killed and started again, and stopped for longer than they wait.

use std::{rc::Rc, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};
use zonecast_trials::Shares;

use super::{QUIET_WHERE_CALM, begin, listener, publisher, wind_up};
use crate::{
    broker::Broker,
    crew::{self, Peer},
    field::LINKS,
    report::millis,
    script::{ClientScript, Order},
    stage::Stage,
};

/// How long all may take to be back.
const BACK_WITHIN: Duration = Duration::from_secs(40);
/// Longer than a client waits for a sign of life.
const STOPPED_FOR: Duration = Duration::from_secs(5);

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let (clients, rounds) = if stage.options.in_full() { (500_usize, 3) } else { (100, 1) };
    let broker = Broker::new(stage, &[], &[]);
    broker.start().await?;
    let brokers = [Rc::clone(&broker)];
    let mut peers = Vec::new();
    for number in 0..LINKS {
        // The first ones have one client more where they do not come out even.
        let share = clients / LINKS + usize::from(number < clients % LINKS);
        peers.push(Peer::new(stage, &brokers, (0..share).map(|client| member(&brokers, number, client)).collect()));
    }
    let began = Instant::now();
    begin(stage, &peers).await?;
    stage.figure("storm_first_connect_ms", millis(Some(began.elapsed())));
    let mut back = Vec::new();
    for _ in 0..rounds {
        sleep(Duration::from_millis(500)).await;
        crew::tell_all(&peers, Order::Mark).await;
        stage.count("restart_storms");
        stage.count("broker_kills");
        broker.kill().await;
        broker.start().await?;
        stage.count("broker_restarts");
        back.push(until_back(stage, &peers).await);
    }
    if stage.options.in_full() {
        crew::tell_all(&peers, Order::Mark).await;
        stage.count("restart_storms");
        stage.count("broker_stops");
        broker.signal(Signal::STOP);
        sleep(STOPPED_FOR).await;
        broker.signal(Signal::CONT);
        back.push(until_back(stage, &peers).await);
    }
    wind_up(stage, &peers, QUIET_WHERE_CALM).await;
    stage.figure("storm", json!({"clients": clients, "all_back_ms": back}));
    Ok(())
}

/// Waits until all have noticed and are back; the time from now, in milliseconds. Who has nothing to say notices late.
async fn until_back(stage: &Stage, peers: &[Rc<Peer>]) -> serde_json::Value {
    let began = Instant::now();
    if !crew::all_relinked(peers, BACK_WITHIN).await {
        stage.breach("not all are back in time after a restart".to_owned());
    }
    millis(Some(began.elapsed()))
}

fn member(brokers: &[Rc<Broker>], peer: usize, client: usize) -> ClientScript {
    let topic = format!("storm.p{peer}.c{}", client % 4);
    let is_publisher = client < 2;
    let publishers = if is_publisher {
        let shares = Shares { routed: 50, processed: 50, state: 0, transient: 0 };
        vec![publisher(0, &topic, Duration::from_millis(100), shares)]
    } else {
        Vec::new()
    };
    let west = i64::try_from(client % 10).unwrap_or(0) * 100;
    ClientScript { zones: vec![[(west, 0), (west + 90, 90)]], publishers, ..listener(brokers, &[&topic]) }
}
