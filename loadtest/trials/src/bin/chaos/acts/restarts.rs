//! One broker is killed and started again at once, while clients write: how soon do they notice?

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use serde_json::json;
use tokio::time::sleep;
use zonecast_trials::{Run, Shares};

use super::{QUIET_WHERE_CALM, begin, listener, publisher, wind_up};
use crate::{
    broker::Broker,
    clock::Stamp,
    crew::{self, Peer},
    journal::{Entry, What},
    replay::Merged,
    report::{millis, quantile},
    script::{ClientScript, Order},
    stage::Stage,
};

/// Clients that write all the time.
const WRITERS: usize = 4;
/// Time between two events of a writer.
const WRITES_EVERY: Duration = Duration::from_millis(3);
/// When writers that are connected again write again.
const WRITING_AGAIN_AFTER: Duration = Duration::from_millis(800);
/// How long all may take to be back.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let broker = Broker::new(stage, &[], &[]);
    broker.start().await?;
    let brokers = [Rc::clone(&broker)];
    let writer = |_| ClientScript {
        publishers: vec![publisher(0, "writing", WRITES_EVERY, Shares::UNANSWERED)],
        ..listener(&brokers, &[])
    };
    let peers = [Peer::new(stage, &brokers, (0..WRITERS).map(writer).collect())];
    begin(stage, &peers).await?;
    let mut restarts = Vec::new();
    for _ in 0..if stage.options.in_full() { 8 } else { 2 } {
        // Longer than the library waits with what it sends again: by then the writers write.
        sleep(WRITING_AGAIN_AFTER).await;
        crew::tell_all(&peers, Order::Mark).await;
        stage.count("broker_kills");
        let killed = Stamp::now();
        broker.kill().await;
        let started = Stamp::now();
        broker.start().await?;
        stage.count("broker_restarts");
        restarts.push((killed, started));
        if !crew::all_relinked(&peers, BACK_WITHIN).await {
            stage.breach("the writers are not back in time after a restart".to_owned());
        }
    }
    wind_up(stage, &peers, QUIET_WHERE_CALM).await;
    let runs: BTreeSet<Run> = peers.iter().flat_map(|peer| peer.runs()).collect();
    let mut noticed = noticed(stage, &runs, &restarts)?;
    stage.figure("restart_noticed_ms", millis(quantile(&mut noticed, 0.5)));
    stage.figure("restart_noticed_max_ms", millis(quantile(&mut noticed, 1.0)));
    stage.figure("restarts_noticed", json!(noticed.len()));
    if noticed.is_empty() {
        stage.breach("no writer noticed a restart".to_owned());
    }
    Ok(())
}

/// For each restart and writer, the time from the start of the new broker's process, which takes its time to listen, to
/// the loss of the connection.
fn noticed(stage: &Stage, runs: &BTreeSet<Run>, restarts: &[(Stamp, Stamp)]) -> anyhow::Result<Vec<Duration>> {
    let mut losses = Vec::new();
    let mut merged = Merged::open(&stage.journals_of_act())?;
    while let Some(Entry(stamp, what)) = merged.next()? {
        if let What::Unlinked(run, _) = what
            && runs.contains(&run)
        {
            losses.push((run, stamp));
        }
    }
    let first_loss = |run: &Run, killed: Stamp| losses.iter().find(|(of, at)| of == run && *at > killed);
    let of_restart = |(killed, started): &(Stamp, Stamp)| {
        runs.iter().filter_map(|run| first_loss(run, *killed)).map(|(_, at)| at.since(*started)).collect::<Vec<_>>()
    };
    Ok(restarts.iter().flat_map(of_restart).collect())
}
