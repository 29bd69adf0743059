//! What may be observed: a small model of the delivery promises, which shares no code with broker or client.
//!
//! An [`Observer`] is told, in the order in which it happens, what applications see: what they publish and are answered,
//! what is delivered to them and what they process, the notices that something is missing, and since when and until when
//! a subscription is certainly in force. It knows nothing of sessions, connections or packets. What must not be, it calls
//! a [`Violation`]; what may be but should be known, it counts.
//!
//! Where it cannot be certain it accuses nobody. A subscription counts as in force from the moment in which its
//! application is told so, until it asks for the end, its broker is killed, or it is told of an interruption. An event is
//! held against it only when the event was published after the beginning and answered before the end, by the same broker.
//!
//! Start at [`Observer`].

mod holdings;
mod verdict;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::holdings::Holdings;
pub use self::{
    verdict::{Findings, Violation, ViolationKind},
    words::{Aim, Answer, BrokerNumber, Class, Ear, Level, Name, Notice, Run, Want},
};

/// A place in the order of all that the observer was told.
type Step = u64;

/// The model: what the applications of one run may see, and what they saw.
#[derive(Debug, Default)]
pub struct Observer {
    step: Step,
    now: Duration,
    events: BTreeMap<Name, Event>,
    ears: BTreeMap<Ear, EarRecord>,
    runs: BTreeMap<Run, RunRecord>,
    holdings: Holdings,
    findings: Findings,
}

#[derive(Debug)]
struct Event {
    aim: Aim,
    class: Class,
    level: Level,
    /// Whether the publisher's own session is left out.
    excludes_self: bool,
    published: Step,
    answer: Option<Answered>,
    deliveries: Vec<Delivery>,
    /// Who has processed it, and when first.
    processed: BTreeMap<u16, Step>,
}

#[derive(Debug)]
struct Answered {
    answer: Answer,
    at: Step,
    /// The broker that the publisher was connected to.
    by: Option<BrokerNumber>,
}

#[derive(Debug, Clone, Copy)]
struct Delivery {
    ear: Ear,
    at: Step,
    resent: bool,
}

#[derive(Debug, Default)]
struct EarRecord {
    heard: BTreeSet<Name>,
    /// The highest number of a reliable event, for each publisher and lane.
    highest: BTreeMap<(Run, u8), u64>,
    /// The highest number of a value of class state, for each publisher, lane and key.
    newest: BTreeMap<(Run, u8, String), u64>,
    notices: Vec<Step>,
    ended: bool,
}

#[derive(Debug, Default)]
struct RunRecord {
    broker: Option<BrokerNumber>,
    ended: bool,
}

impl Observer {
    /// Says how late it is. Only for what is printed.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    fn step(&mut self) -> Step {
        self.step += 1;
        self.step
    }

    fn violation(&mut self, kind: ViolationKind, what: String) {
        let at = self.now;
        self.findings.add(Violation { kind, at, what });
    }

    /// A process has begun.
    pub fn started(&mut self, run: Run) {
        self.runs.insert(run, RunRecord::default());
    }

    /// A process has ended, or is ending. What it does not get any more is held against nobody.
    pub fn ended(&mut self, run: Run) {
        let step = self.step();
        self.runs.entry(run).or_default().ended = true;
        self.holdings.run_ended(run, step);
    }

    /// A client is connected, with all subscriptions in force. `resumed`: its session from before goes on.
    pub fn linked(&mut self, run: Run, broker: BrokerNumber, resumed: bool) {
        let step = self.step();
        self.runs.entry(run).or_default().broker = Some(broker);
        self.findings.resumed += u64::from(resumed);
        self.holdings.linked(run, broker, resumed, step);
    }

    /// A client has lost its connection. Its session may live on.
    pub fn unlinked(&mut self, run: Run) {
        self.runs.entry(run).or_default().broker = None;
    }

    /// A broker's process was killed.
    pub fn broker_killed(&mut self, broker: BrokerNumber) {
        let step = self.step();
        self.holdings.broker_killed(broker, step);
    }

    /// A broker is shutting down.
    pub fn broker_stopping(&mut self, broker: BrokerNumber) {
        let step = self.step();
        self.holdings.broker_stopping(broker, step);
    }

    /// A subscription is about to be dropped. What it does not get any more is held against nobody.
    pub fn ear_ended(&mut self, ear: Ear) {
        let step = self.step();
        self.ears.entry(ear).or_default().ended = true;
        self.holdings.ear_ended(ear, step);
    }

    /// A subscription's application was told that this is in force from now on. `number` names it within the ear.
    pub fn in_force(&mut self, ear: Ear, number: u32, want: Want) {
        let step = self.step();
        let broker = self.broker_of(ear.run);
        self.holdings.want(ear, number, want, broker, step);
    }

    /// A subscription is about to give this up.
    pub fn giving_up(&mut self, ear: Ear, number: u32) {
        let step = self.step();
        self.holdings.give_up(ear, number, step);
    }

    /// `from` is about to hand this to `to`, which will name it by the same number. From now on, one of them hears.
    pub fn handing_over(&mut self, from: Ear, to: Ear, number: u32) {
        let step = self.step();
        self.holdings.handing_over(from, to, number, step);
    }

    /// The hand-over has happened: the receiver alone hears from now on.
    pub fn handed_over(&mut self, to: Ear, number: u32, want: Want) {
        let step = self.step();
        let broker = self.broker_of(to.run);
        self.holdings.want_once(to, number, want, broker, step);
    }

    /// It is not certain any more who holds it.
    pub fn hand_over_in_doubt(&mut self, number: u32) {
        let step = self.step();
        self.holdings.forget(number, step);
    }

    /// What was found so far.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Whether everyone is connected, and every answer that is awaited has come.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let lives = |run: &Run| self.runs.get(run).is_some_and(|record| !record.ended);
        let is_open = |(name, event): (&Name, &Event)| {
            event.level != Level::None && event.answer.is_none() && lives(&name.publisher)
        };
        self.runs.values().all(|record| record.ended || record.broker.is_some()) && !self.events.iter().any(is_open)
    }

    /// The broker that a client is connected to, as far as is known.
    #[must_use]
    pub fn broker_of(&self, run: Run) -> Option<BrokerNumber> {
        self.runs.get(&run).and_then(|record| record.broker)
    }

    /// An event was queued by its publisher's library.
    pub fn published(&mut self, name: Name, aim: Aim, class: Class, level: Level) {
        let published = self.step();
        self.findings.published += 1;
        let event = Event {
            aim,
            class,
            level,
            excludes_self: false,
            published,
            answer: None,
            deliveries: Vec::new(),
            processed: BTreeMap::new(),
        };
        if self.events.insert(name, event).is_some() {
            self.violation(ViolationKind::Phantom, format!("the name {name} was given twice"));
        }
    }

    /// That event is not for its publisher's own session.
    pub fn excludes_self(&mut self, name: Name) {
        if let Some(event) = self.events.get_mut(&name) {
            event.excludes_self = true;
        }
    }

    /// Something that should have ended has not.
    pub fn stuck(&mut self, what: String) {
        self.violation(ViolationKind::Stuck, what);
    }

    /// A publisher was answered.
    pub fn answered(&mut self, name: Name, answer: Answer) {
        let at = self.step();
        let by = self.broker_of(name.publisher);
        let Some(event) = self.events.get_mut(&name) else { return };
        let processed = event.processed.len();
        let level = event.level;
        if event.answer.is_some() {
            return self.violation(ViolationKind::Phantom, format!("{name} was answered twice"));
        }
        match (&answer, level) {
            (Answer::Refused(_), _) => self.findings.refused += 1,
            (Answer::Acked { .. }, Level::Processed) => self.findings.acked_processed += 1,
            (Answer::Acked { .. }, _) => self.findings.acked_routed += 1,
        }
        if let (Answer::Acked { matched }, Level::Processed) = (&answer, level)
            && processed < *matched as usize
        {
            let what = format!("{name} is acknowledged as processed by {matched}, but only {processed} have done so");
            self.violation(ViolationKind::AckedLost, what);
        }
        if let Some(event) = self.events.get_mut(&name) {
            event.answer = Some(Answered { answer, at, by });
        }
    }

    /// An event was handed to an application.
    pub fn delivered(&mut self, ear: Ear, name: Name, resent: bool) {
        let at = self.step();
        self.findings.delivered += 1;
        let Some(event) = self.events.get_mut(&name) else {
            return self.violation(ViolationKind::Phantom, format!("{ear} was given {name}, which nobody published"));
        };
        event.deliveries.push(Delivery { ear, at, resent });
        let class = event.class.clone();
        let record = self.ears.entry(ear).or_default();
        if !record.heard.insert(name) {
            return self.violation(ViolationKind::Duplicated, format!("{ear} was given {name} twice"));
        }
        // Of a key's values the newest counts, so an older one must not come behind it, be it flagged or not.
        let (highest, may_be_flagged) = match class {
            Class::Reliable => (record.highest.entry((name.publisher, name.lane)).or_default(), true),
            Class::State(key) => (record.newest.entry((name.publisher, name.lane, key)).or_default(), false),
            Class::Transient => return,
        };
        let before = *highest;
        *highest = before.max(name.lane_seq);
        if name.lane_seq < before && !(resent && may_be_flagged) {
            let what = match may_be_flagged {
                true => format!("{ear} was given {name} after {before} of that lane, without a flag"),
                false => format!("{ear} was given {name} after {before}, a newer value of its key"),
            };
            self.violation(ViolationKind::UnflaggedReorder, what);
        }
    }

    /// An application is done with an event and says so to its library.
    pub fn processed(&mut self, ear: Ear, name: Name) {
        let at = self.step();
        if let Some(event) = self.events.get_mut(&name) {
            event.processed.entry(ear.run.client).or_insert(at);
        }
    }

    /// A subscription shows that something is missing.
    pub fn noticed(&mut self, ear: Ear, notice: Notice) {
        let step = self.step();
        self.ears.entry(ear).or_default().notices.push(step);
        match notice {
            Notice::Gap => self.findings.gaps_shown += 1,
            Notice::Interrupted => {
                self.findings.interruptions_shown += 1;
                // Who is connected again has all again already: this is read late.
                if self.broker_of(ear.run).is_none() {
                    self.holdings.interrupted(ear, step);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
