//! Publishers, and the last question to everyone.

use std::{rc::Rc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use zonecast_client::{Circle, Client, DeliveryClass, EventId, PendingReceipt, Publish, PublishError};

use super::{
    application::{PROBE, WORK, WORLD},
    stage::Stage,
};
use crate::{
    Aim, Answer, Class, Kind, Level, Name, Run,
    plan::{PublisherPlan, TOPICS, point},
};

/// The time that most publishers leave for processing; brokers may leave less.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// Publishes of one publisher whose answers are awaited, at most.
const AWAITED_MAX: usize = 200;
/// The lane of the last question.
const PROBE_LANE: u8 = 15;
/// How long the last question may wait to be sent.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// One event as it is to be published.
pub(super) struct Draft {
    pub(super) aim: Aim,
    pub(super) class: Class,
    pub(super) level: Level,
    pub(super) lane: u8,
    pub(super) payload_bytes: usize,
    /// Whether the publisher's own subscriptions are left out.
    pub(super) excludes_self: bool,
    /// How long the publisher waits until it is processed.
    pub(super) expires_in: Duration,
}

/// Publishes until publishing is over, then waits for the last answers.
pub(super) async fn publish(stage: Rc<Stage>, client: Client, run: Run, lane: u8, plan: PublisherPlan) {
    let user = u64::from(run.client) << 40 | u64::from(run.incarnation) << 20 | u64::from(lane) << 8 | 1 << 61;
    let mut random = stage.random(user);
    let mut answers = JoinSet::new();
    while stage.publishing.get() {
        // Uniform from nothing to twice the mean: bunched enough, and never endless.
        sleep(plan.every.mul_f64(2.0 * random.f64())).await;
        for _ in 0..random.u64(1..=plan.burst) {
            let draft = Draft::draw(&mut random, &plan, lane);
            if let Some(answer) = send(&stage, &client, run, &draft).await {
                answers.spawn_local(answer);
            }
            while answers.len() > AWAITED_MAX {
                answers.join_next().await;
            }
            while answers.try_join_next().is_some() {}
        }
    }
    while answers.join_next().await.is_some() {}
}

impl Draft {
    fn draw(random: &mut fastrand::Rng, plan: &PublisherPlan, lane: u8) -> Self {
        let aim = match random.u64(..10) {
            0..6 => Aim::Place { world: WORLD.into(), at: point(random), radius: random.i64(0..80) },
            6..9 => Aim::Topic(TOPICS[random.usize(..TOPICS.len())].into()),
            _ => Aim::Topic(WORK.into()),
        };
        let (class, level) = match plan.shares.draw(random) {
            Kind::Routed => (Class::Reliable, Level::Routed),
            Kind::Processed => (Class::Reliable, Level::Processed),
            Kind::State => {
                (Class::State(format!("k{}", random.u64(..3))), [Level::None, Level::Routed][random.usize(..2)])
            }
            Kind::Transient => (Class::Transient, [Level::None, Level::Routed][random.usize(..2)]),
            Kind::Unanswered => (Class::Reliable, Level::None),
        };
        let payload_bytes = random.usize(..=plan.payload_bytes_max);
        let expires_in = if random.u64(..8) == 0 { Duration::from_millis(random.u64(50..1_000)) } else { LONG };
        Self { aim, class, level, lane, payload_bytes, excludes_self: random.u64(..10) == 0, expires_in }
    }
}

/// Publishes one event; gives back what waits for its answer, if it has one.
pub(super) async fn send(
    stage: &Rc<Stage>,
    client: &Client,
    run: Run,
    draft: &Draft,
) -> Option<impl Future<Output = ()> + use<>> {
    let aimed = match &draft.aim {
        Aim::Place { world, at, radius } => {
            Publish::at(world, Circle::new(at.0 as f64, at.1 as f64, *radius as f64).ok()?)
        }
        Aim::Topic(topic) => Publish::to_topic(topic),
    };
    let publish = aimed.lane(draft.lane).payload(vec![0; draft.payload_bytes]).published_at_us(0);
    let publish = match &draft.class {
        Class::Reliable => publish,
        Class::State(key) => publish.class(DeliveryClass::State).key(key),
        Class::Transient => publish.class(DeliveryClass::Transient),
    };
    let publish = if draft.excludes_self { publish.exclude_self() } else { publish };
    let told = |id: EventId| {
        let name = Name { publisher: run, lane: id.lane, lane_seq: id.lane_seq };
        stage.say(|| format!("{name} -> {:?} {:?} {:?}", draft.aim, draft.class, draft.level));
        stage.observe(|observer| {
            observer.published(name, draft.aim.clone(), draft.class.clone(), draft.level);
            if draft.excludes_self {
                observer.excludes_self(name);
            }
        });
        name
    };
    if draft.level == Level::None {
        match client.publish(publish).await {
            Ok(id) => drop(told(id)),
            Err(error) => stage.say(|| format!("{run} did not publish: {error}")),
        }
        return None;
    }
    let queued = match draft.level {
        Level::Processed => client.publish_with_processed_ack(publish.expires_in(draft.expires_in)).await,
        _ => client.publish_with_ack(publish).await,
    };
    match queued {
        Ok(receipt) => {
            let name = told(receipt.id());
            Some(await_answer(Rc::clone(stage), name, receipt))
        }
        Err(error) => {
            stage.say(|| format!("{run} did not publish: {error}"));
            None
        }
    }
}

async fn await_answer(stage: Rc<Stage>, name: Name, receipt: PendingReceipt) {
    let answer = match receipt.await {
        Ok(receipt) => Answer::Acked { matched: receipt.matched },
        // The process is ending; nobody will ever know.
        Err(PublishError::Closed) => return,
        Err(error) => Answer::Refused(error.to_string()),
    };
    stage.say(|| format!("{name} answered: {answer:?}"));
    stage.observe(|observer| observer.answered(name, answer));
}

/// Everyone says something to everyone: after all troubles it must be heard.
pub(super) async fn probe(stage: &Rc<Stage>) {
    let clients: Vec<_> = stage.clients.borrow().iter().filter_map(|client| client.present.borrow().clone()).collect();
    let mut answers = JoinSet::new();
    for present in clients {
        let draft = Draft {
            aim: Aim::Topic(PROBE.into()),
            class: Class::Reliable,
            level: Level::Routed,
            lane: PROBE_LANE,
            payload_bytes: 10,
            excludes_self: false,
            expires_in: LONG,
        };
        match timeout(PROBE_PATIENCE, send(stage, &present.client, present.run, &draft)).await {
            Ok(Some(answer)) => drop(answers.spawn_local(answer)),
            _ => stage.say(|| format!("{} cannot be asked", present.run)),
        }
    }
    answers.detach_all();
}
