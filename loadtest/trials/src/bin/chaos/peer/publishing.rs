//! Publishers, and the last question to everyone.

use std::{rc::Rc, time::Duration};

use tokio::{
    task::{JoinSet, spawn_local},
    time::sleep,
};
use zonecast_client::{Circle, DeliveryClass, EventId, PendingReceipt, Publish, PublishError, code_label};
use zonecast_trials::{Aim, Answer, Class, Kind, Level, Name};

use super::{Desk, life::Life};
use crate::{
    journal::What,
    script::{Aims, FIELD, PROBE, PublisherScript, WORLD},
};

/// The lane of the last question.
const PROBE_LANE: u8 = 15;

/// One lane, on which one task publishes. It knows the name of an event before the library gives it.
struct Lane {
    life: Rc<Life>,
    number: u8,
    published: u64,
}

/// One event as it is to be published.
struct Draft {
    aim: Aim,
    class: Class,
    level: Level,
    payload_bytes: usize,
    expires_in: Duration,
}

/// Publishes until publishing is over, then waits for the last answers.
pub(super) async fn publish(life: Rc<Life>, script: PublisherScript) {
    let mut random = life.random(1_000 + u64::from(script.lane));
    let mut quiet = life.desk.publishing.subscribe();
    let mut lane = Lane { life: Rc::clone(&life), number: script.lane, published: 0 };
    let mut answers = JoinSet::new();
    while life.desk.is_publishing() {
        // Uniform from nothing to twice the mean: bunched enough, and never endless.
        tokio::select! {
            () = sleep(script.every.mul_f64(2.0 * random.f64())) => {}
            _ = quiet.wait_for(|publishing| !publishing) => break,
        }
        let draft = Draft::draw(&mut random, &script);
        match lane.send(&draft).await {
            Ok(Some(receipt)) => drop(answers.spawn_local(await_answer(Rc::clone(&life), receipt))),
            Ok(None) => {}
            // The client is closed, or the script is wrong; either shows in the figures.
            Err(_) => break,
        }
        while answers.len() >= script.awaited_max {
            answers.join_next().await;
        }
        while answers.try_join_next().is_some() {}
    }
    while answers.join_next().await.is_some() {}
}

impl Draft {
    fn draw(random: &mut fastrand::Rng, script: &PublisherScript) -> Self {
        let aim = match &script.aims {
            Aims::Anywhere => {
                let at = (random.i64(0..FIELD), random.i64(0..FIELD));
                Aim::Place { world: WORLD.into(), at, radius: random.i64(0..80) }
            }
            Aims::Topics(topics) => Aim::Topic(topics[random.usize(..topics.len())].clone()),
        };
        let (class, level) = match script.shares.draw(random) {
            Kind::Routed => (Class::Reliable, Level::Routed),
            Kind::Processed => (Class::Reliable, Level::Processed),
            // A key belongs to a lane: lanes overtake each other, and which value is the latest would be anyone's guess.
            Kind::State => (Class::State(format!("{}.{}", script.lane, random.u64(..3))), Level::Routed),
            Kind::Transient => (Class::Transient, Level::None),
            Kind::Unanswered => (Class::Reliable, Level::None),
        };
        let payload_bytes = random.usize(..=script.payload_bytes_max);
        Self { aim, class, level, payload_bytes, expires_in: script.expires_in }
    }

    fn to_publish(&self, lane: u8) -> Option<Publish<'_>> {
        let aimed = match &self.aim {
            Aim::Place { world, at, radius } => {
                Publish::at(world, Circle::new(at.0 as f64, at.1 as f64, *radius as f64).ok()?)
            }
            Aim::Topic(topic) => Publish::to_topic(topic),
        };
        let publish = aimed.lane(lane).payload(vec![0; self.payload_bytes]).expires_in(self.expires_in);
        Some(match &self.class {
            Class::Reliable => publish,
            Class::State(key) => publish.class(DeliveryClass::State).key(key),
            Class::Transient => publish.class(DeliveryClass::Transient),
        })
    }
}

impl Lane {
    /// Publishes one event; gives back what waits for its answer, if it has one.
    async fn send(&mut self, draft: &Draft) -> Result<Option<(Name, PendingReceipt)>, PublishError> {
        let Some(publish) = draft.to_publish(self.number) else { return Ok(None) };
        let desk = Rc::clone(&self.life.desk);
        self.published += 1;
        let name = Name { publisher: self.life.run, lane: self.number, lane_seq: self.published };
        desk.note(What::Publishing(name, draft.aim.clone(), draft.class.clone(), draft.level));
        desk.count(|standing| standing.awaited += 1);
        let client = &self.life.client;
        let sent = match draft.level {
            Level::None => client.publish(publish).await.map(|id| (id, None)),
            Level::Routed => client.publish_with_ack(publish).await.map(|receipt| (receipt.id(), Some(receipt))),
            Level::Processed => {
                client.publish_with_processed_ack(publish).await.map(|receipt| (receipt.id(), Some(receipt)))
            }
        };
        if !matches!(sent, Ok((_, Some(_)))) {
            desk.count(|standing| standing.awaited -= 1);
        }
        let (id, receipt) = sent?;
        self.check(id);
        Ok(receipt.map(|receipt| (name, receipt)))
    }

    fn check(&self, id: EventId) {
        if (id.lane, id.lane_seq) != (self.number, self.published) {
            super::end(&format!("lane {} gave the name {id} to its event {}", self.number, self.published));
        }
    }
}

async fn await_answer(life: Rc<Life>, (name, receipt): (Name, PendingReceipt)) {
    let answer = match receipt.await {
        Ok(receipt) => Answer::Acked { matched: receipt.matched },
        // Only the end of the process closes a client, and nobody will ever know.
        Err(PublishError::Closed) => return,
        Err(error) => Answer::Refused(reason(&error)),
    };
    life.tell_link();
    life.desk.note(What::Answered(name, answer));
    life.desk.count(|standing| {
        standing.awaited -= 1;
        standing.answered += 1;
    });
}

/// The reason in one word.
fn reason(error: &PublishError) -> String {
    match error {
        PublishError::Refused(refusal) | PublishError::Unprocessed(refusal) => code_label(refusal.code).to_owned(),
        other => other.kind().to_owned(),
    }
}

/// Everyone says something to everyone: after all troubles it must be heard.
pub(super) fn probe(desk: &Rc<Desk>) {
    for life in desk.lives.borrow().iter().map(Rc::clone) {
        spawn_local(async move {
            let mut lane = Lane { life: Rc::clone(&life), number: PROBE_LANE, published: 0 };
            let draft = Draft {
                aim: Aim::Topic(PROBE.into()),
                class: Class::Reliable,
                level: Level::Routed,
                payload_bytes: 10,
                expires_in: Duration::from_secs(1),
            };
            if let Ok(Some(receipt)) = lane.send(&draft).await {
                await_answer(life, receipt).await;
            }
        });
    }
}
