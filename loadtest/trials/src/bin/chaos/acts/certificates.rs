//! Certificates are rewritten under load: sessions stay, and new connections see the new one.

use std::{rc::Rc, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};
use zonecast_trials::Shares;

use super::{QUIET_WHERE_CALM, begin, listener, publisher, wind_up};
use crate::{broker::Broker, crew::Peer, script::ClientScript, stage::Stage};

/// How long a broker may take to show a new certificate after it was told of it.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

/// Plays it.
pub(crate) async fn play(stage: &Rc<Stage>) -> anyhow::Result<()> {
    let broker = Broker::new(stage, &[], &[]);
    broker.start().await?;
    let brokers = [Rc::clone(&broker)];
    let topic = "certificates";
    let member = |_| ClientScript {
        publishers: vec![publisher(0, topic, Duration::from_millis(20), Shares::PROCESSED)],
        ..listener(&brokers, &[topic])
    };
    let peers = [Peer::new(stage, &brokers, (0..6).map(member).collect())];
    begin(stage, &peers).await?;
    let opened = broker.metric("zonecast_sessions_opened_total", "").await?;
    let mut shown_in = Vec::new();
    for _ in 0..if stage.options.in_full() { 5 } else { 2 } {
        stage.count("certificate_rotations");
        let given = stage.certificates.rotate()?;
        broker.signal(Signal::HUP);
        let began = Instant::now();
        let mut is_shown = false;
        while !is_shown && began.elapsed() < SHOWN_WITHIN {
            sleep(Duration::from_millis(20)).await;
            is_shown = stage.certificates.shown_by(broker.address()?).await? == given;
        }
        if is_shown {
            shown_in.push(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        } else {
            stage.breach("a new connection does not see the new certificate".to_owned());
        }
        sleep(Duration::from_millis(300)).await;
    }
    let opened_since = broker.metric("zonecast_sessions_opened_total", "").await? - opened;
    if opened_since > 0.0 {
        stage.breach(format!("{opened_since} sessions began anew over rotated certificates"));
    }
    wind_up(stage, &peers, QUIET_WHERE_CALM).await;
    stage.figure("certificates", json!({"shown_in_ms": shown_in, "sessions_lost": opened_since}));
    Ok(())
}
