//! What everyone in a run shares: the plan, the network, the observer, and the hosts.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use tokio::time::Instant;

use super::{BrokerHost, ClientHost, Identity, Teller};
use crate::{
    Findings, Observer, Plan, Run,
    network::{Network, mixed},
};

/// How often each kind of trouble really happened, by its name.
pub type TroubleCounts = BTreeMap<&'static str, u64>;

pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) identity: Identity,
    pub(super) network: Network,
    pub(super) began: Instant,
    pub(super) brokers: RefCell<Vec<Rc<BrokerHost>>>,
    pub(super) clients: RefCell<Vec<Rc<ClientHost>>>,
    /// Whose events bear which source.
    pub(super) sources: RefCell<BTreeMap<u64, Run>>,
    pub(super) troubles: RefCell<TroubleCounts>,
    /// Until it is over, publishers publish.
    pub(super) publishing: Cell<bool>,
    /// From then on everyone works as fast as it can.
    healed: Cell<bool>,
    observer: RefCell<Observer>,
    teller: Option<Teller>,
}

impl Stage {
    pub(super) fn new(plan: Plan, identity: Identity, teller: Option<Teller>) -> Self {
        Self {
            network: Network::new(mixed(plan.seed, 1)),
            plan,
            identity,
            began: Instant::now(),
            brokers: RefCell::default(),
            clients: RefCell::default(),
            sources: RefCell::default(),
            troubles: RefCell::default(),
            publishing: Cell::new(true),
            healed: Cell::new(false),
            observer: RefCell::default(),
            teller,
        }
    }

    /// Tells the observer something.
    pub(super) fn observe<T>(&self, tell: impl FnOnce(&mut Observer) -> T) -> T {
        let mut observer = self.observer.borrow_mut();
        observer.set_time(self.began.elapsed());
        let violations = observer.findings().violations().len();
        let told = tell(&mut observer);
        for violation in &observer.findings().violations()[violations..] {
            self.say(|| format!("VIOLATION {:?}: {}", violation.kind, violation.what));
        }
        told
    }

    /// Tells what happens, when somebody listens.
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if let Some(teller) = &self.teller {
            teller(&format!("{:>10.3}  {}", self.began.elapsed().as_secs_f64(), what()));
        }
    }

    /// Counts a trouble that has happened.
    pub(super) fn count(&self, trouble: &'static str) {
        *self.troubles.borrow_mut().entry(trouble).or_default() += 1;
    }

    /// A stream of random numbers of its own for each user.
    pub(super) fn random(&self, user: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(mixed(self.plan.seed, 1_000 + user))
    }

    pub(super) fn heal(&self) {
        self.healed.set(true);
        self.say(|| "all troubles are over".into());
    }

    pub(super) fn is_healed(&self) -> bool {
        self.healed.get()
    }

    pub(super) fn client(&self, number: u16) -> Rc<ClientHost> {
        Rc::clone(&self.clients.borrow()[usize::from(number)])
    }

    pub(super) fn broker(&self, number: u16) -> Rc<BrokerHost> {
        Rc::clone(&self.brokers.borrow()[usize::from(number)])
    }

    /// How many events were handed to applications.
    pub(super) fn delivered(&self) -> u64 {
        self.observer.borrow().findings().delivered
    }

    /// Whether everyone is connected and answered.
    pub(super) fn is_settled(&self) -> bool {
        self.observer.borrow().is_settled()
    }

    /// A run that was replaced must know it. Brokers do not know of each other yet, so it holds for a single one.
    pub(super) fn accuse_untold(&self) {
        if self.plan.brokers.len() == 1 {
            for run in self.clients.borrow().iter().flat_map(|client| client.untold()) {
                self.observe(|observer| observer.stuck(format!("{run} was not told that a newer run replaced it")));
            }
        }
    }

    /// The observer's last words.
    pub(super) fn conclude(&self) -> Findings {
        let mut observer = self.observer.take();
        observer.set_time(self.began.elapsed());
        let known = observer.findings().violations().len();
        let findings = observer.finish();
        for violation in &findings.violations()[known..] {
            self.say(|| format!("VIOLATION {:?}: {}", violation.kind, violation.what));
        }
        findings
    }
}
