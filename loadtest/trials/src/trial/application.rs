//! What a client's process does: it connects, subscribes, reads what it gets, and publishes.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use zonecast_client::{
    Client, ClientConfig, ConnectionState, ErrorCode, Event, LinkError, TopicItem, TopicSubscription, Zone, ZoneItem,
    ZoneSpec, ZoneSubscription,
};

use super::{SLOW_CONSUMERS, broker_host::BrokerHost, client_host::Present, publishing, stage::Stage};
use crate::{
    Ear, Name, Notice, Run, Want,
    plan::{ClientPlan, point},
};

/// The world of the zones and places.
pub(super) const WORLD: &str = "field";
/// What everyone listens to, and is asked at the end.
pub(super) const PROBE: &str = "probe";
/// The topic of work that is shared in a group.
pub(super) const WORK: &str = "work.item";

/// Subscriptions that are dropped and made anew are numbered from here.
const FIRST_CHURNED: u16 = 200;
/// An explicit application rejects one event of so many.
const REJECTED_ONE_IN: u64 = 400;
/// The pauses between two attempts to connect for the first time.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The whole life of a process. Its tasks end with it.
pub(super) async fn live(stage: Rc<Stage>, plan: ClientPlan, config: ClientConfig, run: Run) {
    let client = loop {
        match Client::connect(config.clone()).await {
            Ok(client) => break client,
            Err(error) => {
                stage.say(|| format!("{run} cannot connect: {error}"));
                sleep(TRY_AGAIN_AFTER).await;
            }
        }
    };
    stage.sources.borrow_mut().insert(client.source(), run);
    let mut tasks = JoinSet::new();
    tasks.spawn_local(watch(Rc::clone(&stage), client.clone(), run));
    let reader = |ear| Reader::new(&stage, ear, &plan);
    let ear = |subscription| Ear { run, subscription };

    let specs: Vec<ZoneSpec> = (1..).zip(&plan.zones).filter_map(|(id, corners)| zone(id, *corners)).collect();
    let zones = match client.subscribe_zones(specs).await {
        Ok(zones) if plan.explicit => zones.explicit(),
        Ok(zones) => zones,
        Err(error) => return stage.say(|| format!("{run} gets no zones: {error}")),
    };
    for (id, [min, max]) in (1..).zip(&plan.zones) {
        let want = Want::Zone { world: WORLD.into(), min: *min, max: *max };
        stage.observe(|observer| observer.in_force(ear(0), id, want));
    }
    let received = Rc::new(RefCell::new(None));
    let present =
        Present { client: client.clone(), run, zones: zones.control(), ear: ear(0), received: Rc::clone(&received) };
    *stage.client(run.client).present.borrow_mut() = Some(present.clone());
    tasks.spawn_local(reader(ear(0)).read_zones(zones, received));
    if plan.moves_zones && !plan.zones.is_empty() {
        tasks.spawn_local(move_zones(Rc::clone(&stage), plan.clone(), present));
    }
    for (number, publisher) in (0..).zip(&plan.publishers) {
        tasks.spawn_local(publishing::publish(Rc::clone(&stage), client.clone(), run, number, publisher.clone()));
    }
    let mut patterns = plan.patterns.clone();
    if plan.churns && !patterns.is_empty() {
        let pattern = patterns.remove(0);
        tasks.spawn_local(churn(Rc::clone(&stage), client.clone(), run, plan.clone(), pattern));
    }
    for (number, pattern) in (1..).zip(patterns.into_iter().chain([PROBE])) {
        match client.subscribe(pattern).await {
            Ok(topics) => {
                let topics = if plan.explicit { topics.explicit() } else { topics };
                stage.observe(|observer| observer.in_force(ear(number), 0, Want::Topics(pattern.into())));
                tasks.spawn_local(reader(ear(number)).read_topics(topics));
            }
            Err(error) => stage.say(|| format!("{run} does not hear {pattern}: {error}")),
        }
    }
    if plan.shares_work {
        match client.queue_subscribe("work.*", "workers").await {
            Ok(topics) => {
                let topics = if plan.explicit { topics.explicit() } else { topics };
                tasks.spawn_local(reader(ear(100)).read_topics(topics));
            }
            Err(error) => stage.say(|| format!("{run} shares no work: {error}")),
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn ear_number(ear: Ear) -> u64 {
    u64::from(ear.run.client) << 40 | u64::from(ear.run.incarnation) << 20 | u64::from(ear.subscription)
}

fn zone(id: u32, [min, max]: [(i64, i64); 2]) -> Option<ZoneSpec> {
    let zone = Zone::new(min.0 as f64, min.1 as f64, max.0 as f64, max.1 as f64).ok()?;
    Some(ZoneSpec::new(id, WORLD, zone))
}

/// Tells the observer of the connection.
async fn watch(stage: Rc<Stage>, client: Client, run: Run) {
    let mut states = client.states();
    // The watch must not keep the client alive that it watches.
    drop(client);
    let mut state = Some(states.current());
    while let Some(now) = state {
        stage.say(|| format!("{run} {now:?}"));
        if let ConnectionState::Disconnected { reason: LinkError::Ended { code, .. }, .. } = &now
            && *code == ErrorCode::SlowConsumer as u32
        {
            stage.count(SLOW_CONSUMERS);
        }
        let connected = match &now {
            ConnectionState::Connected { address, resumed, .. } => BrokerHost::at(*address).zip(Some(*resumed)),
            _ => None,
        };
        stage.observe(|observer| match connected {
            Some((broker, resumed)) => observer.linked(run, broker, resumed),
            None => observer.unlinked(run),
        });
        state = states.next().await;
    }
}

/// Moves one zone after the other, now and then.
async fn move_zones(stage: Rc<Stage>, plan: ClientPlan, present: Present) {
    let mut random = stage.random(ear_number(present.ear) ^ 1 << 60);
    while stage.publishing.get() {
        sleep(Duration::from_millis(random.u64(200..4_000))).await;
        let id = random.u32(1..=u32::try_from(plan.zones.len()).unwrap_or(1));
        let (min, size) = (point(&mut random), random.i64(0..400));
        let max = (min.0 + size, min.1 + size);
        let Some(spec) = zone(id, [min, max]) else { continue };
        stage.observe(|observer| observer.giving_up(present.ear, id));
        match present.zones.put([spec]).await {
            Ok(_) => {
                let want = Want::Zone { world: WORLD.into(), min, max };
                stage.observe(|observer| observer.in_force(present.ear, id, want));
            }
            Err(error) => return stage.say(|| format!("{} does not move its zone {id}: {error}", present.run)),
        }
    }
}

/// Subscribes to a pattern, drops it with all that waits in it, and begins again.
async fn churn(stage: Rc<Stage>, client: Client, run: Run, plan: ClientPlan, pattern: &'static str) {
    let mut random = stage.random(u64::from(run.client) << 40 | u64::from(run.incarnation) << 20 | 1 << 62);
    for subscription in FIRST_CHURNED.. {
        let ear = Ear { run, subscription };
        let topics = match client.subscribe(pattern).await {
            Ok(topics) if plan.explicit => topics.explicit(),
            Ok(topics) => topics,
            Err(error) => return stage.say(|| format!("{run} does not hear {pattern}: {error}")),
        };
        stage.observe(|observer| observer.in_force(ear, 0, Want::Topics(pattern.into())));
        let mut reading = Box::pin(Reader::new(&stage, ear, &plan).read_topics(topics));
        tokio::select! {
            biased;
            () = &mut reading => return,
            () = sleep(Duration::from_millis(random.u64(300..5_000))) => {}
        }
        if !stage.publishing.get() {
            return reading.await;
        }
        stage.say(|| format!("{ear} is dropped"));
        stage.observe(|observer| observer.ear_ended(ear));
        drop(reading);
        sleep(Duration::from_millis(random.u64(..1_000))).await;
    }
}

/// Reads one subscription.
struct Reader {
    stage: Rc<Stage>,
    ear: Ear,
    plan: ClientPlan,
    random: fastrand::Rng,
    /// What an explicit application is working on.
    working: JoinSet<()>,
}

impl Reader {
    fn new(stage: &Rc<Stage>, ear: Ear, plan: &ClientPlan) -> Self {
        let random = stage.random(ear_number(ear));
        Self { stage: Rc::clone(stage), ear, plan: plan.clone(), random, working: JoinSet::new() }
    }

    async fn read_zones(
        mut self,
        mut zones: ZoneSubscription,
        received: Rc<RefCell<Option<mpsc::UnboundedSender<ZoneSpec>>>>,
    ) {
        while let Some(item) = {
            self.stage.client(self.ear.run.client).may_read().await;
            zones.next().await
        } {
            match item {
                ZoneItem::Event(event) => self.take(event).await,
                ZoneItem::Received { zones, .. } => {
                    if let Some(received) = &*received.borrow() {
                        // Fails when the storm is over.
                        zones.into_iter().for_each(|zone| drop(received.send(zone)));
                    }
                }
                ZoneItem::Gap { reason, .. } => self.note(Notice::Gap, &format!("{reason:?}")),
                ZoneItem::Interrupted => self.note(Notice::Interrupted, ""),
                _ => {}
            }
        }
    }

    async fn read_topics(mut self, mut topics: TopicSubscription) {
        while let Some(item) = {
            self.stage.client(self.ear.run.client).may_read().await;
            topics.next().await
        } {
            match item {
                TopicItem::Event(event) => self.take(event).await,
                TopicItem::Gap { reason, .. } => self.note(Notice::Gap, &format!("{reason:?}")),
                TopicItem::Interrupted => self.note(Notice::Interrupted, ""),
                _ => {}
            }
        }
    }

    fn note(&self, notice: Notice, why: &str) {
        self.stage.say(|| format!("{} {notice:?} {why}", self.ear));
        self.stage.observe(|observer| observer.noticed(self.ear, notice));
    }

    /// Works on an event. An explicit application goes on reading meanwhile, and now and then rejects one.
    async fn take(&mut self, event: Event) {
        let Some(name) = name(&self.stage, &event) else { return };
        self.stage.say(|| format!("{} <- {name}{}", self.ear, if event.is_resent() { " resent" } else { "" }));
        self.stage.observe(|observer| observer.delivered(self.ear, name, event.is_resent()));
        let takes = if self.stage.is_healed() { Duration::ZERO } else { self.plan.takes_at_most };
        let takes = takes.mul_f64(self.random.f64());
        if !self.plan.explicit {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            // Asking for the next item is what acknowledges this one.
            return self.stage.observe(|observer| observer.processed(self.ear, name));
        }
        if self.random.u64(..REJECTED_ONE_IN) == 0 {
            return self.stage.say(|| format!("{} rejects {name}", self.ear));
        }
        let (stage, ear) = (Rc::clone(&self.stage), self.ear);
        self.working.spawn_local(async move {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            stage.observe(|observer| observer.processed(ear, name));
            event.done();
        });
        while self.working.try_join_next().is_some() {}
    }
}

fn name(stage: &Stage, event: &Event) -> Option<Name> {
    let publisher = *stage.sources.borrow().get(&event.source())?;
    Some(Name { publisher, lane: event.lane(), lane_seq: event.lane_seq() })
}
