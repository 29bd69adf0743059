//! Reads subscriptions, and writes down what they yield before acting on it.

use std::{rc::Rc, time::Duration};

use tokio::time::sleep;
use zonecast_client::{Event, TopicItem, TopicSubscription, ZoneItem, ZoneSubscription};
use zonecast_trials::{Ear, Notice};

use super::life::Life;
use crate::{
    journal::{Heard, What},
    script::ClientScript,
};

/// The application behind one subscription.
pub(super) struct Reader {
    life: Rc<Life>,
    ear: Ear,
    takes_up_to: Duration,
    explicit: bool,
    random: fastrand::Rng,
}

impl Reader {
    pub(super) fn new(life: &Rc<Life>, subscription: u16, script: &ClientScript) -> Self {
        Self {
            life: Rc::clone(life),
            ear: life.ear(subscription),
            takes_up_to: script.takes_up_to,
            explicit: script.explicit,
            random: life.random(100 + u64::from(subscription)),
        }
    }

    pub(super) async fn read_zones(mut self, zones: ZoneSubscription) {
        let mut zones = if self.explicit { zones.explicit() } else { zones };
        while let Some(item) = zones.next().await {
            match item {
                ZoneItem::Event(event) => self.take(&event).await,
                ZoneItem::Gap { reason, .. } => self.note(Notice::Gap, format!("{reason:?}")),
                ZoneItem::Interrupted => self.note(Notice::Interrupted, String::new()),
                _ => {}
            }
        }
    }

    pub(super) async fn read_topics(mut self, topics: TopicSubscription) {
        let mut topics = if self.explicit { topics.explicit() } else { topics };
        while let Some(item) = topics.next().await {
            match item {
                TopicItem::Event(event) => self.take(&event).await,
                TopicItem::Gap { reason, .. } => self.note(Notice::Gap, format!("{reason:?}")),
                TopicItem::Interrupted => self.note(Notice::Interrupted, String::new()),
                _ => {}
            }
        }
    }

    fn note(&self, notice: Notice, why: String) {
        self.life.tell_link();
        self.life.desk.note(What::Noticed(self.ear, notice, why));
    }

    async fn take(&mut self, event: &Event) {
        let desk = &self.life.desk;
        let heard: Heard = (event.source(), event.lane(), event.lane_seq());
        if event.is_late() && !event.is_resent() {
            desk.note(What::LateUnannounced(self.ear, heard));
        }
        desk.note(What::Delivered(self.ear, heard, event.is_resent() || event.is_late()));
        desk.count(|standing| standing.delivered += 1);
        // Once nothing more is published everyone works as fast as they can.
        if !self.takes_up_to.is_zero() && desk.is_publishing() {
            sleep(self.takes_up_to.mul_f64(self.random.f64())).await;
        }
        // Asking for the next item is what acknowledges this one, where the application does not say it itself.
        desk.note(What::Processed(self.ear, heard));
        if self.explicit {
            event.done();
        }
    }
}
