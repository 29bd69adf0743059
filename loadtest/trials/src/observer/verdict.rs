//! What the observer finds, once all is told.

use std::{collections::BTreeMap, time::Duration};

use super::{Answer, Answered, Class, Delivery, Ear, Event, Level, Name, Observer, Run, Step, holdings::Holding};

/// Violations that are kept with their words; all are counted.
const VIOLATIONS_KEPT_MAX: usize = 20;

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// Acknowledged as processed, and not processed by all whom it concerned.
    AckedLost,
    /// Handed to the same application twice, or to both sides of a hand-over.
    Duplicated,
    /// Out of the order of its lane, and not said to be sent again; or an older value of a key behind a newer one, said to
    /// be sent again or not.
    UnflaggedReorder,
    /// Acknowledged as routed, and missing without a word.
    SilentGap,
    /// Not finished long after everything was well again.
    Stuck,
    /// Something that cannot be: delivered but never published, answered twice.
    Phantom,
}

/// One thing that must not be.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which promise is broken.
    pub kind: ViolationKind,
    /// When it was noticed.
    pub at: Duration,
    /// In words.
    pub what: String,
}

/// Counts, and violations.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Events published.
    pub published: u64,
    /// Events handed to applications.
    pub delivered: u64,
    /// Publishes acknowledged as routed.
    pub acked_routed: u64,
    /// Publishes acknowledged as processed.
    pub acked_processed: u64,
    /// Publishes refused or given up, each with a reason.
    pub refused: u64,
    /// Gaps shown to applications.
    pub gaps_shown: u64,
    /// Interruptions shown to applications.
    pub interruptions_shown: u64,
    /// Connections in which a session from before went on.
    pub resumed: u64,
    /// Deliveries of events acknowledged as routed that certainly were due.
    pub routed_due: u64,
    /// Of those, missing after their broker was killed, as is permitted and shown.
    pub routed_lost_on_crash: u64,
    /// Of those, missing for other reasons, as is shown.
    pub routed_lost_with_notice: u64,
    violations_by_kind: BTreeMap<ViolationKind, u64>,
    violations: Vec<Violation>,
}

impl Findings {
    pub(super) fn add(&mut self, violation: Violation) {
        *self.violations_by_kind.entry(violation.kind).or_default() += 1;
        if self.violations.len() < VIOLATIONS_KEPT_MAX {
            self.violations.push(violation);
        }
    }

    /// Adds those of another run.
    pub fn add_all(&mut self, other: &Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.acked_routed += other.acked_routed;
        self.acked_processed += other.acked_processed;
        self.refused += other.refused;
        self.gaps_shown += other.gaps_shown;
        self.interruptions_shown += other.interruptions_shown;
        self.resumed += other.resumed;
        self.routed_due += other.routed_due;
        self.routed_lost_on_crash += other.routed_lost_on_crash;
        self.routed_lost_with_notice += other.routed_lost_with_notice;
        for (kind, count) in &other.violations_by_kind {
            *self.violations_by_kind.entry(*kind).or_default() += count;
        }
        let room = VIOLATIONS_KEPT_MAX.saturating_sub(self.violations.len());
        self.violations.extend(other.violations.iter().take(room).cloned());
    }

    /// How many there are of a kind.
    #[must_use]
    pub fn count(&self, kind: ViolationKind) -> u64 {
        self.violations_by_kind.get(&kind).copied().unwrap_or(0)
    }

    /// Each kind of which there are any, with how many.
    pub fn counts(&self) -> impl Iterator<Item = (ViolationKind, u64)> {
        self.violations_by_kind.iter().map(|(kind, count)| (*kind, *count))
    }

    /// The first of them, in words.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

/// How a delivery that was due fared.
enum Due {
    Heard,
    /// Nobody may complain: its process ended, or a newer value came.
    Moot,
    LostOnCrash,
    LostWithNotice,
    LostInSilence,
}

impl Observer {
    /// Judges what can only be judged at the end: when everything has been well again for long enough, all applications
    /// have read all that waits for them, and nothing more is under way.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        self.judge_liveness();
        let events = std::mem::take(&mut self.events);
        for (name, event) in &events {
            if let (Some(answered), true) = (&event.answer, event.level != Level::None)
                && let Answer::Acked { .. } = answered.answer
            {
                self.judge_acked(&events, *name, event, answered);
            }
        }
        self.findings
    }

    fn judge_liveness(&mut self) {
        let lives = |run: &Run| self.runs.get(run).is_some_and(|record| !record.ended);
        let unanswered = |(name, event): (&Name, &Event)| {
            let is_stuck = event.level != Level::None && event.answer.is_none() && lives(&name.publisher);
            is_stuck.then(|| format!("{name} has no answer"))
        };
        let mut stuck: Vec<String> = self.events.iter().filter_map(unanswered).collect();
        let away = self.runs.iter().filter(|(_, record)| !record.ended && record.broker.is_none());
        stuck.extend(away.map(|(run, _)| format!("{run} is not connected")));
        for what in stuck {
            self.violation(super::ViolationKind::Stuck, what);
        }
    }

    fn judge_acked(&mut self, events: &BTreeMap<Name, Event>, name: Name, event: &Event, answered: &Answered) {
        let Some(broker) = answered.by else { return };
        let holdings: Vec<Holding> = self
            .holdings
            .iter()
            .filter(|holding| holding.broker == broker && holding.covers(event.published, answered.at))
            .filter(|holding| holding.want.matches(&event.aim))
            .filter(|holding| !(event.excludes_self && holding.ears.iter().any(|ear| ear.run == name.publisher)))
            .cloned()
            .collect();
        for holding in &holdings {
            let due = self.due(events, name, event, holding);
            if event.level == Level::Routed {
                self.findings.routed_due += u64::from(!matches!(due, Due::Moot));
            }
            match (due, event.level) {
                (Due::LostOnCrash, Level::Routed) => self.findings.routed_lost_on_crash += 1,
                (Due::LostWithNotice, Level::Routed) => self.findings.routed_lost_with_notice += 1,
                (Due::LostInSilence, Level::Routed) => {
                    let what = format!("{name} was acknowledged as routed, and {} never got it", ears(holding));
                    self.violation(ViolationKind::SilentGap, what);
                }
                (Due::LostInSilence, _) => {
                    let what = format!("{name} was acknowledged as processed, and {} never got it", ears(holding));
                    self.violation(ViolationKind::AckedLost, what);
                }
                (Due::Heard, Level::Processed) => self.judge_processed(name, event, answered, holding),
                _ => {}
            }
            self.judge_hand_over(name, event, holding);
        }
    }

    /// Who heard it must have processed it before the acknowledgement, unless its session was lost on the way.
    fn judge_processed(&mut self, name: Name, event: &Event, answered: &Answered, holding: &Holding) {
        let in_time = |ear: &Ear| event.processed.get(&ear.run.client).is_some_and(|at| *at < answered.at);
        let is_excused = |ear: &Ear| self.has_ended(*ear) || self.notice_between(*ear, event.published, Step::MAX);
        if !holding.ears.iter().any(|ear| in_time(ear) || is_excused(ear)) {
            let what = format!("{name} was acknowledged as processed before {} had done so", ears(holding));
            self.violation(ViolationKind::AckedLost, what);
        }
    }

    /// Both sides of a hand-over hear the same event only when it is sent again.
    fn judge_hand_over(&mut self, name: Name, event: &Event, holding: &Holding) {
        let [first, second] = holding.ears[..] else { return };
        let heard = |ear| event.deliveries.iter().any(|delivery| delivery.ear == ear && !delivery.resent);
        if heard(first) && heard(second) {
            let what = format!("{name} was given to both sides of a hand-over, {first} and {second}");
            self.violation(ViolationKind::Duplicated, what);
        }
    }

    fn due(&self, events: &BTreeMap<Name, Event>, name: Name, event: &Event, holding: &Holding) -> Due {
        if event.deliveries.iter().any(|delivery| holding.ears.contains(&delivery.ear)) {
            return Due::Heard;
        }
        if holding.ears.iter().any(|ear| self.has_ended(*ear))
            || holding.ears.iter().any(|ear| self.newer_value(events, name, event, *ear))
        {
            return Due::Moot;
        }
        let shown = holding.ears.iter().any(|ear| {
            let overtaken = overtaken_at(events, name, event, *ear).unwrap_or(Step::MAX);
            self.notice_between(*ear, event.published, overtaken)
        });
        match (shown, holding.killed.is_some_and(|killed| killed > event.published)) {
            (true, true) => Due::LostOnCrash,
            (true, false) => Due::LostWithNotice,
            (false, _) => Due::LostInSilence,
        }
    }

    /// Whether the ear's client got a newer value in the place of a state event. A value is its publisher's and its
    /// key's, wherever it is sent, so another subscription may have got it, or may have been dropped with it; and lanes
    /// are not ordered, so that any value on another lane may be the newer one.
    fn newer_value(&self, events: &BTreeMap<Name, Event>, name: Name, event: &Event, ear: Ear) -> bool {
        let Class::State(_) = &event.class else { return false };
        let of_publisher = Name { lane: 0, lane_seq: 0, ..name }..=Name { lane: u8::MAX, lane_seq: u64::MAX, ..name };
        let may_replace = |other: &Name, newer: &Event| {
            newer.class == event.class && (other.lane != name.lane || other.lane_seq > name.lane_seq)
        };
        let dropped: Vec<&Holding> = self
            .holdings
            .iter()
            .filter(|holding| holding.ears.iter().any(|of| of.run == ear.run && self.has_ended(*of)))
            .collect();
        events.range(of_publisher).filter(|(other, newer)| may_replace(other, newer)).any(|(_, newer)| {
            let later = |delivery: &Delivery| delivery.ear.run == ear.run && delivery.at > event.published;
            newer.deliveries.iter().any(later) || dropped.iter().any(|holding| holding.want.matches(&newer.aim))
        })
    }

    fn has_ended(&self, ear: Ear) -> bool {
        let run_ended = self.runs.get(&ear.run).is_some_and(|record| record.ended);
        run_ended || self.ears.get(&ear).is_some_and(|record| record.ended)
    }

    fn notice_between(&self, ear: Ear, from: Step, to: Step) -> bool {
        self.ears.get(&ear).is_some_and(|record| record.notices.iter().any(|at| (from..to).contains(at)))
    }
}

/// When the ear first got a later event of the same lane which was not sent again: whatever is missing before it must
/// have been shown by then.
fn overtaken_at(events: &BTreeMap<Name, Event>, name: Name, event: &Event, ear: Ear) -> Option<Step> {
    if event.class != Class::Reliable {
        return None;
    }
    let later = Name { lane_seq: name.lane_seq + 1, ..name }..=Name { lane_seq: u64::MAX, ..name };
    let reliable = events.range(later).filter(|(_, event)| event.class == Class::Reliable);
    let deliveries = reliable.flat_map(|(_, event)| &event.deliveries);
    deliveries.filter(|delivery| delivery.ear == ear && !delivery.resent).map(|delivery| delivery.at).min()
}

fn ears(holding: &Holding) -> String {
    holding.ears.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
