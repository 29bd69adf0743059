//! Lets troubles begin and end.

use std::rc::Rc;

use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{hand_over, stage::Stage};
use crate::{
    network::{Fault, Host, Scope},
    plan::{Place, Trouble, TroubleKind},
};

/// The names of all troubles that are counted by themselves; those of single packets are counted by the network.
pub const TROUBLES: [&str; 12] = [
    "client_stalls",
    "broker_stalls",
    "rebinds",
    "reconnect_storms",
    "broker_kills",
    "broker_shutdowns",
    "broker_restarts",
    "client_kills",
    "client_twins",
    "client_leaves",
    "hand_overs",
    "frozen_readers",
];

/// The longest time by which a packet comes late when order is disturbed.
const LATE_BY: std::time::Duration = std::time::Duration::from_millis(80);

/// Plays all troubles of the plan; returns when the last is over and everyone is back.
pub(super) async fn unleash(stage: &Rc<Stage>) {
    let mut troubles = JoinSet::new();
    for (number, trouble) in (0..).zip(stage.plan.troubles.clone()) {
        let stage = Rc::clone(stage);
        troubles.spawn_local(async move {
            sleep_until(stage.began + trouble.from).await;
            stage.say(|| format!("trouble: {:?} for {:?}", trouble.kind, trouble.lasts));
            play(&stage, number, trouble).await;
            stage.say(|| format!("over: {:?}", trouble.kind));
        });
    }
    sleep_until(stage.began + stage.plan.healed).await;
    while troubles.join_next().await.is_some() {}
}

async fn play(stage: &Rc<Stage>, number: u32, trouble: Trouble) {
    let end = stage.began + trouble.from + trouble.lasts;
    match trouble.kind {
        TroubleKind::Loss(place, share) => on_links(stage, Fault::Loss(share), place, trouble).await,
        TroubleKind::Duplication(place, share) => on_links(stage, Fault::Duplication(share), place, trouble).await,
        TroubleKind::Reordering(place, share) => {
            on_links(stage, Fault::Reordering(share, LATE_BY), place, trouble).await;
        }
        TroubleKind::BitFlips(place, share) => on_links(stage, Fault::BitFlips(share), place, trouble).await,
        TroubleKind::NarrowLinks(place, length_max) => on_links(stage, Fault::Narrow(length_max), place, trouble).await,
        TroubleKind::Partition(place) => on_links(stage, Fault::Partition, place, trouble).await,
        TroubleKind::Mute(place) => {
            let scope = Scope { from: host(stage, place), to: None, both_ways: false };
            with_fault(stage, Fault::OneWayPartition, scope, trouble).await;
        }
        TroubleKind::Deaf(place) => {
            let scope = Scope { from: None, to: host(stage, place), both_ways: false };
            with_fault(stage, Fault::OneWayPartition, scope, trouble).await;
        }
        TroubleKind::ClientStall(client) => {
            stage.count("client_stalls");
            on_links(stage, Fault::Hold, Place::Client(client), trouble).await;
        }
        TroubleKind::BrokerStall(broker) => {
            stage.count("broker_stalls");
            let broker = stage.broker(broker);
            broker.stop();
            sleep_until(end).await;
            broker.go_on();
        }
        TroubleKind::Rebind(client) => {
            let client = stage.client(client);
            if client.is_running() {
                stage.count("rebinds");
                client.rebind();
            }
        }
        TroubleKind::ReconnectStorm => {
            stage.count("reconnect_storms");
            stage.clients.borrow().iter().for_each(|client| client.rebind());
        }
        TroubleKind::BrokerKill(_)
        | TroubleKind::BrokerShutdown(_)
        | TroubleKind::ClientKill(_)
        | TroubleKind::ClientLeaves(_) => end_process(stage, trouble).await,
        TroubleKind::ClientTwin(client) => {
            let client = stage.client(client);
            if client.is_running() {
                stage.count("client_twins");
                client.start_twin();
            }
        }
        TroubleKind::HandOverStorm(from, to) => hand_over::storm(stage, number, (from, to), end).await,
        TroubleKind::FrozenReader(client) => {
            stage.count("frozen_readers");
            let client = stage.client(client);
            client.set_reads(false);
            sleep_until(end).await;
            client.set_reads(true);
        }
    }
}

/// Ends a process, and starts it again at the end of the trouble. Who is down already is left alone.
async fn end_process(stage: &Rc<Stage>, trouble: Trouble) {
    match trouble.kind {
        TroubleKind::BrokerKill(broker) | TroubleKind::BrokerShutdown(broker) => {
            let broker = stage.broker(broker);
            if broker.is_running() {
                if let TroubleKind::BrokerKill(_) = trouble.kind {
                    stage.count("broker_kills");
                    broker.kill().await;
                } else {
                    stage.count("broker_shutdowns");
                    broker.shut_down().await;
                }
                sleep(trouble.lasts).await;
                stage.count("broker_restarts");
                broker.start();
            }
        }
        TroubleKind::ClientKill(client) | TroubleKind::ClientLeaves(client) => {
            let host = stage.client(client);
            if host.is_running() {
                if let TroubleKind::ClientKill(_) = trouble.kind {
                    stage.count("client_kills");
                    host.kill();
                } else {
                    stage.count("client_leaves");
                    host.leave().await;
                }
                sleep(trouble.lasts).await;
                host.start();
            }
        }
        _ => {}
    }
}

async fn on_links(stage: &Stage, fault: Fault, place: Place, trouble: Trouble) {
    let scope = host(stage, place).map_or_else(Scope::everywhere, Scope::all_of);
    with_fault(stage, fault, scope, trouble).await;
}

async fn with_fault(stage: &Stage, fault: Fault, scope: Scope, trouble: Trouble) {
    let begun = stage.network.begin(fault, scope);
    sleep(trouble.lasts).await;
    stage.network.end(begun);
}

fn host(stage: &Stage, place: Place) -> Option<Host> {
    match place {
        Place::Client(client) => Some(stage.client(client).host()),
        Place::Broker(broker) => Some(stage.broker(broker).host()),
        Place::Everywhere => None,
    }
}
