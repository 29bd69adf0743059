//! A broker has no file descriptor left, because its admin HTTP is crowded: sessions must go on.

use std::{rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};
use zonecast_trials::Shares;

use super::{QUIET_WHERE_CALM, begin, listener, publisher, wind_up};
use crate::{broker::Broker, crew::Peer, script::ClientScript, stage::Stage};

/// Files that the broker may have open; it needs some 30 itself.
const DESCRIPTORS: &str = "64";
/// Connections of the crowd: more than that.
const CROWD: usize = 150;
/// How soon the admin HTTP must answer again when the crowd is gone.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let lower = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
    let broker = Broker::new(stage, &[], &["sh", "-c", &lower]);
    broker.start().await?;
    let brokers = [Rc::clone(&broker)];
    let topic = "descriptors";
    let member = |_| ClientScript {
        publishers: vec![publisher(0, topic, Duration::from_millis(20), Shares::PROCESSED)],
        ..listener(&brokers, &[topic])
    };
    let peers = [Peer::new(stage, &brokers, (0..4).map(member).collect())];
    begin(stage, &peers).await?;

    stage.count("descriptor_floods");
    let crowd = broker.crowd(CROWD).await?;
    sleep(Duration::from_millis(300)).await;
    let open = descriptors(&broker);
    let refused = broker.get("/live").await.is_err();
    let answered = answers(&peers).await;
    sleep(Duration::from_secs(if stage.options.in_full() { 3 } else { 1 })).await;
    let answered = answers(&peers).await.saturating_sub(answered);
    // A new client needs no descriptor of the broker's.
    let newcomer = [Peer::new(stage, &brokers, vec![listener(&brokers, &[topic])])];
    let came = begin(stage, &newcomer).await.is_ok();
    let connections = crowd.len();
    drop(crowd);
    let began = Instant::now();
    let mut answers_again = false;
    while !answers_again && began.elapsed() < ANSWERS_WITHIN {
        answers_again = broker.get("/ready").await.is_ok();
        sleep(Duration::from_millis(50)).await;
    }
    let again_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let [first] = peers;
    let [second] = newcomer;
    wind_up(stage, &[first, second], QUIET_WHERE_CALM).await;
    stage.figure(
        "descriptors",
        json!({
            "limit": DESCRIPTORS.parse::<u64>().unwrap_or(0), "open": open, "crowd": connections,
            "admin_refused": refused, "answered_during": answered, "newcomer_came": came, "admin_again_ms": again_ms,
        }),
    );
    for (is_well, what) in [
        (answered > 0, "nothing was answered while the broker had no descriptor left"),
        (came, "no new client could connect while the broker had no descriptor left"),
        (answers_again, "the admin HTTP does not answer when the crowd is gone"),
    ] {
        if !is_well {
            stage.breach(what.to_owned());
        }
    }
    Ok(())
}

async fn answers(peers: &[Rc<Peer>]) -> u64 {
    let mut answered = 0;
    for peer in peers {
        answered += peer.ask().await.unwrap_or_default().answered;
    }
    answered
}

/// Files that the broker has open.
fn descriptors(broker: &Broker) -> usize {
    let files = broker.process_id().and_then(|id| std::fs::read_dir(format!("/proc/{id}/fd")).ok());
    files.map_or(0, Iterator::count)
}
