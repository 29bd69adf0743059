//! A broker with a memory limit, and slow readers under a flood: it must not be killed for it.

use std::{rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::sleep;
use zonecast_trials::Shares;

use super::{QUIET_WHERE_CALM, begin, listener, publisher, wind_up};
use crate::{
    broker::Broker,
    cgroup::MemoryGroup,
    crew::Peer,
    script::{ClientScript, PublisherScript},
    stage::Stage,
};

/// What waits for all sessions together, at most. The limit leaves the rest of the broker some room beside it.
const WAITING_BYTES_MAX: &str = "33554432";
/// Limit of the group.
const LIMIT_BYTES: u64 = 64 << 20;
/// Slow readers.
const READERS: usize = 8;

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let group = match MemoryGroup::new(&stage.outer_root, &format!("{}-memory", stage.prefix), LIMIT_BYTES) {
        Ok(group) => Some(group),
        Err(error) => {
            stage.not_run(format!("the memory limit: {error:#}; the flood goes on without it"));
            None
        }
    };
    let settings = [
        ("outbox-bytes-max", "8388608"),
        ("outbox-bytes-soft", "1048576"),
        ("outbox-total-bytes-max", WAITING_BYTES_MAX),
        ("outbox-total-bytes-soft", "16777216"),
        ("connections-slow-consumer-timeout-ms", "3000"),
    ];
    let broker = Broker::new(stage, &settings, &[]);
    broker.start().await?;
    if let (Some(group), Some(process)) = (&group, broker.process_id()) {
        group.admit(process)?;
    }
    let brokers = [Rc::clone(&broker)];
    let topic = "memory";
    let reader = |_| ClientScript { takes_up_to: Duration::from_millis(400), ..listener(&brokers, &[topic]) };
    let flood = |lane, shares| PublisherScript {
        payload_bytes_max: 64 << 10,
        awaited_max: 400,
        ..publisher(lane, topic, Duration::from_millis(4), shares)
    };
    // Transient events are dropped, state is replaced, reliable ones are held back: each fills memory its own way.
    let kinds = [Shares::ROUTED, Shares { transient: 100, ..Shares::UNANSWERED }, Shares::UNANSWERED];
    let source = |shares| ClientScript { publishers: vec![flood(0, shares)], ..listener(&brokers, &[]) };
    let peers = [
        Peer::new(stage, &brokers, (0..READERS).map(reader).collect()),
        Peer::new(stage, &brokers, kinds.into_iter().map(source).collect()),
    ];
    begin(stage, &peers).await?;
    stage.count("memory_floods");
    sleep(Duration::from_secs(if stage.options.in_full() { 8 } else { 2 })).await;
    let rss_bytes = broker.rss_peak_bytes().unwrap_or(0);
    wind_up(stage, &peers, QUIET_WHERE_CALM).await;
    let kills = group.as_ref().map(MemoryGroup::kills);
    let peak = group.as_ref().and_then(MemoryGroup::peak_bytes);
    let limit = group.as_ref().map(|_| LIMIT_BYTES >> 20);
    stage.figure(
        "memory",
        json!({
            "limit_mib": limit, "group_peak_mib": peak.map(|bytes| bytes >> 20), "rss_mib": rss_bytes >> 20,
            "killed": kills,
        }),
    );
    if kills.unwrap_or(0) > 0 {
        stage.breach("the broker was killed for its memory".to_owned());
    }
    // The group can be removed only when the broker is gone, and nobody should see it go.
    for peer in &peers {
        peer.dismiss().await;
    }
    broker.dismiss().await;
    Ok(())
}
