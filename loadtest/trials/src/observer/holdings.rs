//! Since when and until when subscriptions are certainly in force.

use super::{BrokerNumber, Ear, Run, Step, Want};

/// All holdings that ever were.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    all: Vec<Holding>,
    /// What applications want as long as they do not say otherwise; their libraries ask for it again by themselves.
    wanted: Vec<(Ear, u32, Want)>,
}

/// A time in which events that match are certainly heard.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    /// By whom: one ear, or the two ears of a hand-over, of which one hears.
    pub(super) ears: Vec<Ear>,
    number: u32,
    pub(super) want: Want,
    pub(super) broker: BrokerNumber,
    pub(super) since: Step,
    pub(super) until: Option<Step>,
    /// When its broker was killed, be it after its end.
    pub(super) killed: Option<Step>,
}

impl Holding {
    /// Whether it was in force from before `from` until after `to`.
    pub(super) fn covers(&self, from: Step, to: Step) -> bool {
        self.since < from && self.until.is_none_or(|until| until > to)
    }

    fn is_open(&self) -> bool {
        self.until.is_none()
    }

    fn close(&mut self, step: Step) {
        self.until.get_or_insert(step);
    }
}

impl Holdings {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Holding> {
        self.all.iter()
    }

    fn open(&mut self, ears: Vec<Ear>, number: u32, want: Want, broker: BrokerNumber, since: Step) {
        self.all.push(Holding { ears, number, want, broker, since, until: None, killed: None });
    }

    fn close_where(&mut self, step: Step, is_meant: impl Fn(&Holding) -> bool) {
        self.all.iter_mut().filter(|holding| is_meant(holding)).for_each(|holding| holding.close(step));
    }

    /// Wanted from now on, over all interruptions.
    pub(super) fn want(&mut self, ear: Ear, number: u32, want: Want, broker: Option<BrokerNumber>, step: Step) {
        self.wanted.push((ear, number, want.clone()));
        self.want_once(ear, number, want, broker, step);
    }

    /// Wanted from now on, until the first interruption.
    pub(super) fn want_once(&mut self, ear: Ear, number: u32, want: Want, broker: Option<BrokerNumber>, step: Step) {
        if let Some(broker) = broker {
            self.open(vec![ear], number, want, broker, step);
        }
    }

    pub(super) fn give_up(&mut self, ear: Ear, number: u32, step: Step) {
        self.wanted.retain(|(of, numbered, _)| (*of, *numbered) != (ear, number));
        self.close_where(step, |holding| holding.number == number && holding.ears.contains(&ear));
    }

    pub(super) fn handing_over(&mut self, from: Ear, to: Ear, number: u32, step: Step) {
        self.wanted.retain(|(of, numbered, _)| (*of, *numbered) != (from, number));
        let held =
            self.all.iter().find(|holding| holding.is_open() && holding.number == number && holding.ears == [from]);
        let both = held.map(|holding| Holding { ears: vec![from, to], ..holding.clone() });
        // Also the pair of the hand-over before, which the sender had a part in.
        self.close_where(step, |holding| holding.number == number && holding.ears.contains(&from));
        self.all.extend(both);
    }

    pub(super) fn forget(&mut self, number: u32, step: Step) {
        self.wanted.retain(|(_, numbered, _)| *numbered != number);
        self.close_where(step, |holding| holding.number == number);
    }

    pub(super) fn run_ended(&mut self, run: Run, step: Step) {
        self.wanted.retain(|(ear, _, _)| ear.run != run);
        self.close_where(step, |holding| holding.ears.iter().any(|ear| ear.run == run));
    }

    pub(super) fn ear_ended(&mut self, ear: Ear, step: Step) {
        self.wanted.retain(|(of, _, _)| *of != ear);
        self.close_where(step, |holding| holding.ears.contains(&ear));
    }

    pub(super) fn broker_stopping(&mut self, broker: BrokerNumber, step: Step) {
        self.close_where(step, |holding| holding.broker == broker);
    }

    pub(super) fn broker_killed(&mut self, broker: BrokerNumber, step: Step) {
        for holding in self.all.iter_mut().filter(|holding| holding.broker == broker) {
            holding.close(step);
            holding.killed.get_or_insert(step);
        }
    }

    /// Opens what is wanted and not open. What was open before goes on only in a session that goes on.
    pub(super) fn linked(&mut self, run: Run, broker: BrokerNumber, resumed: bool, step: Step) {
        self.close_where(step, |holding| {
            (!resumed || holding.broker != broker) && holding.ears.iter().any(|ear| ear.run == run)
        });
        self.reopen(run, broker, step);
    }

    /// Ends what the ear holds, until the next connection.
    pub(super) fn interrupted(&mut self, ear: Ear, step: Step) {
        self.close_where(step, |holding| holding.ears.contains(&ear));
    }

    fn reopen(&mut self, run: Run, broker: BrokerNumber, step: Step) {
        let wanted: Vec<_> = self.wanted.iter().filter(|(ear, _, _)| ear.run == run).cloned().collect();
        for (ear, number, want) in wanted {
            let is_held = |holding: &Holding| {
                holding.is_open() && holding.ears == [ear] && holding.number == number && holding.broker == broker
            };
            if !self.all.iter().any(is_held) {
                self.open(vec![ear], number, want, broker, step);
            }
        }
    }
}
