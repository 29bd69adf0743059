//! Storms of hand-overs: two clients give a zone to and fro while a third party publishes into it.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_local},
    time::{Instant, sleep, timeout},
};
use zonecast_client::{Zone, ZoneSpec};

use super::{
    client_host::{ClientHost, Present},
    publishing::{Draft, LONG, send},
    stage::Stage,
};
use crate::{Aim, Class, Level, Want};

/// The lane of the events into the zone.
const LANE: u8 = 14;
/// How long a step of a storm may take before the storm is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Zones of storms are numbered from here.
const FIRST_ZONE: u32 = 1_000_000;
/// Sides of the zone.
const SIDE: i64 = 100;

/// Hands a zone of a world of its own to and fro until `end`. Does nothing unless both clients are there.
pub(super) async fn storm(stage: &Rc<Stage>, number: u32, (from, to): (u16, u16), end: Instant) {
    let present = |client| stage.client(client).present.borrow().clone();
    let (Some(from), Some(to)) = (present(from), present(to)) else { return };
    let storm = Storm {
        stage: Rc::clone(stage),
        number: FIRST_ZONE + number,
        world: format!("baton-{number}"),
        over: Rc::default(),
    };
    let publishing = spawn_local(storm.clone().publish(from.clone()));
    storm.pass_around([from, to], end).await;
    storm.over.set(true);
    // Ends with the next event at the latest; until then its lane may be held back.
    drop(publishing);
    stage.observe(|observer| observer.hand_over_in_doubt(storm.number));
}

#[derive(Clone)]
struct Storm {
    stage: Rc<Stage>,
    number: u32,
    world: String,
    over: Rc<Cell<bool>>,
}

impl Storm {
    fn want(&self) -> Want {
        Want::Zone { world: self.world.clone(), min: (0, 0), max: (SIDE, SIDE) }
    }

    async fn pass_around(&self, mut pair: [Present; 2], end: Instant) {
        let stage = &self.stage;
        let mut random = stage.random(u64::from(self.number) << 2);
        let side = SIDE as f64;
        let Ok(zone) = Zone::new(0.0, 0.0, side, side) else { return };
        let spec = ZoneSpec::new(self.number, &self.world, zone);
        let Ok(Ok(_)) = timeout(PATIENCE, pair[0].zones.put([spec])).await else { return };
        stage.observe(|observer| observer.handed_over(pair[0].ear, self.number, self.want()));
        let mut id = self.number;
        while Instant::now() < end {
            sleep(Duration::from_millis(random.u64(..60))).await;
            match self.pass_on(&pair, id).await {
                Some(new_id) => id = new_id,
                None => return,
            }
            pair.swap(0, 1);
        }
        stage.observe(|observer| observer.hand_over_in_doubt(self.number));
        // Fails when the session is another by now, and holds nothing of this.
        let _ = timeout(PATIENCE, pair[0].zones.remove([id])).await;
    }

    /// One hand-over; the zone's number at its new holder, unless it is not certain that it has happened.
    async fn pass_on(&self, [from, to]: &[Present; 2], id: u32) -> Option<u32> {
        let stage = &self.stage;
        let broker_of = |present: &Present| stage.observe(|observer| observer.broker_of(present.run));
        if broker_of(from).is_none() || broker_of(from) != broker_of(to) {
            stage.say(|| format!("{} and {} are at different brokers", from.run, to.run));
            return None;
        }
        let (announce, mut announced) = mpsc::unbounded_channel();
        *to.received.borrow_mut() = Some(announce);
        stage.observe(|observer| observer.handing_over(from.ear, to.ear, self.number));
        let to_client = ClientHost::client_id(to.run.client);
        match timeout(PATIENCE, from.zones.hand_over([id], &to_client)).await {
            Ok(Ok(_)) => {}
            refused => {
                stage.say(|| format!("{} does not hand over to {}: {refused:?}", from.run, to.run));
                return None;
            }
        }
        stage.count("hand_overs");
        stage.observe(|observer| observer.handed_over(to.ear, self.number, self.want()));
        let received = async {
            loop {
                match announced.recv().await {
                    Some(zone) if zone.world() == self.world => return Some(zone.id()),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        timeout(PATIENCE, received).await.ok().flatten()
    }

    /// Publishes into the zone until the storm is over, and waits for the last answers.
    async fn publish(self, publisher: Present) {
        let mut random = self.stage.random(u64::from(self.number) << 2 | 1);
        let mut answers = JoinSet::new();
        while !self.over.get() {
            sleep(Duration::from_millis(random.u64(1..30))).await;
            let draft = Draft {
                aim: Aim::Place {
                    world: self.world.clone(),
                    at: (random.i64(0..SIDE), random.i64(0..SIDE)),
                    radius: random.i64(0..10),
                },
                class: Class::Reliable,
                level: Level::Routed,
                lane: LANE,
                payload_bytes: random.usize(..40),
                excludes_self: false,
                expires_in: LONG,
            };
            if let Some(answer) = send(&self.stage, &publisher.client, publisher.run, &draft).await {
                answers.spawn_local(answer);
            }
            while answers.try_join_next().is_some() {}
        }
        while answers.join_next().await.is_some() {}
    }
}
