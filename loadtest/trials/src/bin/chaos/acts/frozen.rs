//! One of 32 readers is stopped: what does it cost the others, its publishers, and the broker's memory?

use std::{collections::BTreeMap, collections::BTreeSet, rc::Rc, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use tokio::time::sleep;
use zonecast_trials::{Aim, Answer, Name, Run, Shares};

use super::{QUIET_WHERE_CALM, begin, listener, publisher, wind_up};
use crate::{
    broker::Broker,
    clock::Stamp,
    crew::Peer,
    journal::{Entry, What},
    replay::Merged,
    report::quantile,
    script::{ClientScript, PublisherScript},
    stage::Stage,
};

/// Readers that stay awake.
const NEIGHBOURS: usize = 31;
/// What all readers hear, the frozen one too.
const ALL: &str = "frozen.all";
/// What the neighbours alone hear, and by which they are measured.
const NEAR: &str = "frozen.near";
/// Time for everything to be warm before it is measured.
const WARM_UP: Duration = Duration::from_millis(700);

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let in_full = stage.options.in_full();
    let (windows, window) = if in_full { (5, Duration::from_secs(1)) } else { (3, Duration::from_millis(600)) };
    let settings = [
        ("connections-slow-consumer-timeout-ms", "2000"),
        ("outbox-deliveries-soft", "30"),
        ("outbox-deliveries-max", "2000"),
    ];
    let broker = Broker::new(stage, &settings, &[]);
    broker.start().await?;
    let brokers = [Rc::clone(&broker)];
    let near: Vec<_> = (0..NEIGHBOURS).map(|_| listener(&brokers, &[ALL, NEAR])).collect();
    let neighbours = Peer::new(stage, &brokers, near);
    let frozen = Peer::new(stage, &brokers, vec![listener(&brokers, &[ALL])]);
    let to_all = PublisherScript {
        expires_in: Duration::from_secs(4),
        // So many that it is the broker that holds the publisher back, and not the publisher itself.
        awaited_max: 4_000,
        ..publisher(0, ALL, Duration::from_millis(25), Shares::PROCESSED)
    };
    let to_near = publisher(0, NEAR, Duration::from_millis(10), Shares::ROUTED);
    let source = |script| ClientScript { publishers: vec![script], ..listener(&brokers, &[]) };
    let sources = Peer::new(stage, &brokers, vec![source(to_all), source(to_near)]);
    let peers = [neighbours, Rc::clone(&frozen), sources];
    begin(stage, &peers).await?;

    sleep(WARM_UP).await;
    let before = windows_from_now(windows, window).await;
    stage.count("frozen_readers");
    let stopped = Stamp::now();
    frozen.signal(Signal::STOP);
    sleep(WARM_UP).await;
    let during = windows_from_now(windows, window).await;
    // Long enough that the broker gives the frozen one up, and its publishers hear of it.
    sleep(Duration::from_secs(if in_full { 4 } else { 2 })).await;
    let ended = broker.metric("zonecast_sessions_ended_total", "SLOW_CONSUMER").await.unwrap_or(0.0);
    let rss_bytes = broker.rss_peak_bytes().unwrap_or(0);
    frozen.signal(Signal::CONT);
    wind_up(stage, &peers, QUIET_WHERE_CALM).await;

    let seen = Seen::read(stage, &peers)?;
    let (before, during) = (seen.p99_us(&before), seen.p99_us(&during));
    let nacks: u64 = seen.refused_since(stopped);
    stage.figure(
        "frozen",
        json!({
            "p99_before_us": before, "p99_during_us": during, "nacks": nacks, "slow_consumers_ended": ended,
            "rss_mib": rss_bytes >> 20,
        }),
    );
    if nacks == 0 {
        stage.breach("a frozen reader's publishers got no refusal".to_owned());
    }
    Ok(())
}

/// Lets some windows pass; each from when to when.
async fn windows_from_now(windows: usize, window: Duration) -> Vec<(Stamp, Stamp)> {
    let mut passed = Vec::with_capacity(windows);
    for _ in 0..windows {
        let began = Stamp::now();
        sleep(window).await;
        passed.push((began, Stamp::now()));
    }
    passed
}

/// What the journals say of this act.
struct Seen {
    /// When a delivery came that is measured, and how long it took.
    latencies: Vec<(Stamp, Duration)>,
    /// When what was refused.
    refused: Vec<Stamp>,
}

impl Seen {
    fn read(stage: &Stage, peers: &[Rc<Peer>]) -> anyhow::Result<Self> {
        let runs: BTreeSet<Run> = peers.iter().flat_map(|peer| peer.runs()).collect();
        let mut sources = BTreeMap::new();
        let mut published: BTreeMap<Name, Stamp> = BTreeMap::new();
        let mut seen = Self { latencies: Vec::new(), refused: Vec::new() };
        let mut merged = Merged::open(&stage.journals_of_act())?;
        while let Some(Entry(stamp, what)) = merged.next()? {
            match what {
                What::Source(run, source) if runs.contains(&run) => drop(sources.insert(source, run)),
                What::Publishing(name, Aim::Topic(topic), ..) if topic == NEAR => drop(published.insert(name, stamp)),
                What::Answered(name, Answer::Refused(_)) if runs.contains(&name.publisher) => seen.refused.push(stamp),
                What::Delivered(_, (source, lane, lane_seq), _) => {
                    let name = sources.get(&source).map(|run| Name { publisher: *run, lane, lane_seq });
                    if let Some(sent) = name.and_then(|name| published.get(&name)) {
                        seen.latencies.push((stamp, stamp.since(*sent)));
                    }
                }
                _ => {}
            }
        }
        Ok(seen)
    }

    /// The median of the windows' p99.
    fn p99_us(&self, windows: &[(Stamp, Stamp)]) -> Option<u64> {
        let of_window = |(from, to): &(Stamp, Stamp)| {
            let within = self.latencies.iter().filter(|(at, _)| (from..to).contains(&at)).map(|(_, took)| *took);
            quantile(&mut within.collect::<Vec<_>>(), 0.99)
        };
        let mut each: Vec<_> = windows.iter().filter_map(of_window).collect();
        quantile(&mut each, 0.5).and_then(|time| u64::try_from(time.as_micros()).ok())
    }

    fn refused_since(&self, then: Stamp) -> u64 {
        self.refused.iter().filter(|at| **at > then).count() as u64
    }
}
